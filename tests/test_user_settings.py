"""What operators set for users: read, merged with the file, and kept over restarts."""

from __future__ import annotations

import json
import random
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.limits import Limits
from sglang.srt.tenancy.state_file import StateError, StateFile
from sglang.srt.tenancy.user_settings import DEFAULT, FIELDS, SettingsError, UserSettings

BAD: dict[str, list[Any]] = {
    "weight": [0, -1, "2", True, None, 1e999, float("nan"), [], 10**400],
    "cache_share": [0, 1.01, -0.5, "0.5", False, float("nan"), {}],
    "max_running": [0, -1, 1.5, "1", True, 2**60, None],
    "max_queued": [-1, 0.0],
    "tokens_per_minute": [0, "many"],
    "colour": [1],
}


@pytest.mark.parametrize(("field", "value"), [(name, v) for name in BAD for v in BAD[name]])
def test_what_cannot_be_used_is_named(field: str, value: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        UserSettings.read({field: value})
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


def draw_settings(draw: random.Random) -> UserSettings:
    values: dict[str, Any] = {
        "weight": draw.choice((0.5, 1.0, 4)),
        "max_running": draw.choice((1, 8)),
        "max_queued": draw.choice((0, 5)),
        "tokens_per_minute": draw.choice((1, 1000)),
        "cache_share": draw.choice((0.25, 1)),
    }
    return UserSettings.read({name: values[name] for name in FIELDS if draw.random() < 0.5})


@pytest.mark.parametrize("seed", range(30))
def test_the_file_counts_then_what_was_set_then_what_holds_for_all(
    seed: int, tmp_path: Path
) -> None:
    """Against a model that looks every value up anew; what is written is what is read."""
    draw = random.Random(seed)
    names = ["ann", "ben", "cid", DEFAULT]
    file: dict[str, UserSettings] = {}
    overrides: dict[str, UserSettings] = {}
    config = TenantConfig()
    state = StateFile(str(tmp_path / "state"))
    for _ in range(60):
        user = draw.choice(names)
        if draw.random() < 0.3:  # a reload
            file = {name: draw_settings(draw) for name in names if draw.random() < 0.5}
            config = TenantConfig(users=file).with_overrides(config.overrides)
        else:
            settings = draw_settings(draw) if draw.random() < 0.7 else None
            state.begin(user, settings)
            if draw.random() < 0.2:
                state.rollback()
            else:
                state.commit()
                config = config.overridden(user, settings)
                overrides.pop(user, None)
                if settings is not None:
                    overrides[user] = settings
        if draw.random() < 0.2:  # a restart
            state.close()
            state = StateFile(str(tmp_path / "state"))
        assert state.load() == overrides == config.overrides

        def holds(user: str, name: str) -> Any:
            for layer in (file.get(user), overrides.get(user)):  # noqa: B023
                if layer is not None and getattr(layer, name) is not None:
                    return getattr(layer, name)
            return None if user == DEFAULT else holds(DEFAULT, name)

        for user in (*names, "nobody"):
            for name in FIELDS:
                if name != "weight":
                    assert getattr(config.settings_of(user), name) == holds(user, name)
            if user != DEFAULT:
                limits = [holds(user, name) for name in FIELDS[1:4]]
                assert config.limits_of(user) == Limits(*limits)
                assert config.cache_shares.of(user) == holds(user, "cache_share")
    state.close()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    StateFile(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def a_state(path: Path, *statements: str) -> str:
    with sqlite3.connect(path) as file:
        for statement in statements:
            file.execute(statement)
    file.close()
    return str(path)


def test_files_that_are_no_state_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database " * 100)
    other = a_state(tmp_path / "other", "CREATE TABLE users (name TEXT)")
    newer = tmp_path / "newer"
    StateFile(str(newer)).close()
    a_state(newer, "PRAGMA user_version = 2")
    spoilt = tmp_path / "spoilt"
    StateFile(str(spoilt)).close()
    bad = json.dumps({"weight": "heavy"})
    a_state(spoilt, f"INSERT INTO users VALUES ('ann', '{bad}')")
    for path, said in (
        (text, "cannot be used"),
        (other, "another program's"),
        (newer, "of version 2, and this server reads 1"),
        (tmp_path / "no" / "folder", "cannot be used"),
    ):
        with pytest.raises(StateError, match="--tenant-state") as refused:
            StateFile(str(path))
        assert said in str(refused.value)
    with pytest.raises(StateError, match="weight"):
        StateFile(str(spoilt)).load()


def test_two_processes_change_it_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang.srt.tenancy.state_file._PATIENCE", 0.1)
    first, second = (StateFile(str(tmp_path / "state")) for _ in range(2))
    first.begin("ann", UserSettings(2.0))
    with pytest.raises(StateError, match="locked"):
        second.begin("ann", UserSettings(3.0))
    assert second.load() == {}
    first.commit()
    second.begin("ann", None)
    second.commit()
    assert first.load() == {}


def test_a_restart_reads_what_was_set(tmp_path: Path) -> None:
    from sglang.srt.tenancy.flags import TenantOptions

    config, path = tmp_path / "tenants.toml", tmp_path / "state"
    config.write_text("[users.ann]\nweight = 2.0\n[default]\nmax_running = 4\n")
    state = StateFile(str(path))
    for user in ("ann", "ben"):
        state.begin(user, UserSettings(5.0, tokens_per_minute=100))
        state.commit()
    state.close()
    options = TenantOptions(tenant_config=str(config), tenant_state=str(path))
    read = TenantConfig.of(options)
    assert read.weights == {"ann": 2.0, "ben": 5.0}
    assert read.limits_of("ben") == Limits(max_running=4, tokens_per_minute=100)
    assert read.hidden() == {"ann": ["weight"]}
