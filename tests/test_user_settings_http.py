"""Settings of users while a server runs: two HTTP processes, two ranks, a restart."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.operator import Operator, refusal_of
from support.patience import until
from support.prompts import fresh_prompt
from support.server import Server

pytestmark = pytest.mark.server

ADMIN, ANNE, BILL = "sk-admin", "sk-anne", "sk-bill"
CONFIG = f"""
[users.anne]
keys = ["{ANNE}"]
weight = 2.0
[users.bill]
keys = ["{BILL}"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings")
    (path / "tenants.toml").write_text(CONFIG)
    return path


def start(model: Path, folder: Path, *flags: str) -> Server:
    return Server(
        model,
        *("--enable-tenant-cache", "--enable-hierarchical-cache", "--enable-cache-report"),
        *("--max-total-tokens", "2048", "--schedule-policy", "vtc", "--admin-api-key", ADMIN),
        *("--tenant-config", str(folder / "tenants.toml")),
        *("--tenant-state", str(folder / "state.sqlite"), *flags),
    )


@pytest.fixture(scope="module")
def server(tiny_model: Path, folder: Path) -> Iterator[Server]:
    flags = ("--tp-size", "2", "--tokenizer-worker-num", "2", "--tenant-report-cached", "own")
    with start(tiny_model, folder, *flags) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(server, ADMIN)


def ask(server: Server, key: str, text: str, tokens: int = 4) -> httpx.Response:
    params = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body = {"text": text, "sampling_params": params}
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    return httpx.post(server.url + "/generate", json=body, headers=headers, timeout=120)


def everywhere(operator: Operator, user: str, **wanted: Any) -> None:
    """Wait until each HTTP process says so; a connection gets either of them."""

    def agrees() -> bool:
        answers = [operator.ask("GET", f"/tenant/users/{user}") for _ in range(8)]
        if not wanted:
            return all(answer.status_code == 404 for answer in answers)
        return all(
            answer.status_code == 200 and wanted.items() <= answer.json().items()
            for answer in answers
        )

    until(agrees, f"{user}: {wanted}")


def test_a_limit_holds_at_once_in_each_process_and_goes_again(
    server: Server, operator: Operator
) -> None:
    said = operator.json("PUT", "/tenant/users/bill", {"max_running": 2, "max_queued": 0})
    assert said["max_running"] == 2
    assert said["set_by"]["max_running"] == "request"
    everywhere(operator, "bill", max_running=2, max_queued=0)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(ask, server, BILL, fresh_prompt(20), 600) for _ in range(12)]
        answered = [one.result().status_code for one in islice(as_completed(asked), 10)]
        operator.ask("POST", "/abort_request", {"abort_all": True}).raise_for_status()
    # Each of the two grants one of the two, which are at work until they are aborted.
    assert answered == [429] * 10
    assert operator.json("DELETE", "/tenant/users/bill") == {"user": "bill", "deleted": True}
    everywhere(operator, "bill", max_running=None)
    with ThreadPoolExecutor(6) as pool:
        statuses = list(
            pool.map(lambda _: ask(server, BILL, fresh_prompt(20)).status_code, range(6))
        )
    assert statuses == [200] * 6


def test_a_share_of_memory_holds_at_once(server: Server, operator: Operator) -> None:
    for _ in range(4):
        assert ask(server, BILL, fresh_prompt(200)).status_code == 200

    def held() -> int:
        text = operator.ask("GET", "/tenant/stats?owners=100").json()
        owners = text["replicas"][0]["device"]["largest_owners"]
        return max((entry["tokens"] for entry in owners), default=0)

    assert held() > 500
    operator.json("PUT", "/tenant/users/bill", {"cache_share": 0.1})
    assert held() <= 205
    operator.json(
        "PUT", "/tenant/users/[default]", {"cache_share": 0.2, "tokens_per_minute": 10**6}
    )
    everywhere(operator, "[default]", cache_share=0.2, tokens_per_minute=10**6)
    everywhere(operator, "anne", tokens_per_minute=10**6)
    listed = operator.json("GET", "/tenant/users")
    assert listed["default"]["cache_share"] == 0.2
    assert [entry["user"] for entry in listed["users"]] == ["anne", "bill"]
    operator.json("DELETE", "/tenant/users/[default]")
    operator.json("DELETE", "/tenant/users/bill")


def test_what_cannot_be_set_is_refused_and_changes_nothing(operator: Operator) -> None:
    before = operator.json("GET", "/tenant/users")
    for user, body, status, param in (
        ("anne", {"weight": 3.0}, 409, "weight"),
        ("bill", {"weight": 0}, 400, "weight"),
        ("bill", {"cache_share": 1.5}, 400, "cache_share"),
        ("bill", {"cache_share": 1e-9}, 400, "cache_share"),
        ("bill", {"max_queued": 3}, 400, "max_queued"),
        ("bill", {"colour": 1}, 400, "colour"),
        ("bill", {}, 400, "body"),
        ("[default]", {"weight": 2.0}, 400, "weight"),
        ("no%20id", {"weight": 2.0}, 400, "user_id"),
        ("team/cache", {"weight": 2.0}, 400, "user_id"),
    ):
        assert refusal_of(operator.ask("PUT", f"/tenant/users/{user}", body), status, param)
    for method in ("GET", "DELETE"):
        assert refusal_of(operator.ask(method, "/tenant/users/nobody"), 404, "user_id")
    assert operator.ask("PUT", "/tenant/users/bill").status_code == 400
    assert operator.json("GET", "/tenant/users") == before
    for key in (None, ANNE):
        for method in ("GET", "PUT", "DELETE"):
            stranger = Operator(operator.server, key)
            assert stranger.ask(method, "/tenant/users/bill", {"weight": 9.0}).status_code == 401


def test_own_tokens_are_told_and_public_ones_are_not(server: Server, operator: Operator) -> None:
    public, own = fresh_prompt(100), fresh_prompt(100)
    operator.publish(name="told", text=public)
    operator.publish(name="told-to-all", input_ids=list(public.encode()))

    def told(key: str, text: str) -> int:
        return int(ask(server, key, text).json()["meta_info"]["cached_tokens"])

    for key in (ANNE, BILL):
        told(key, public)
        assert told(key, public) <= 5  # what the answers added is their own
    assert told(ANNE, own) == 0
    assert told(ANNE, own) >= 95
    for name in ("told", "told-to-all"):
        operator.withdraw(name)


def test_settings_survive_a_restart_and_the_file_counts(
    server: Server, operator: Operator, tiny_model: Path, folder: Path
) -> None:
    """Last: its server ends. The file of the next one sets what was set at run time."""
    operator.json("PUT", "/tenant/users/bill", {"weight": 4.0, "max_running": 7})
    operator.json("PUT", "/tenant/users/team/one", {"tokens_per_minute": 500})
    (folder / "tenants.toml").write_text(CONFIG + "max_running = 9\n")
    with start(tiny_model, folder) as other:
        again = Operator(other, ADMIN)
        bill = again.json("GET", "/tenant/users/bill")
        assert (bill["weight"], bill["max_running"]) == (4.0, 9)
        assert (bill["set_by"]["weight"], bill["set_by"]["max_running"]) == ("request", "file")
        assert again.json("GET", "/tenant/users/team/one")["tokens_per_minute"] == 500
        log = other.log
        assert "max_running of user #" in log
        assert "bill" not in log.split("max_running of user #")[1].splitlines()[0]
        assert refusal_of(
            again.ask("PUT", "/tenant/users/bill", {"max_running": 1}), 409, "max_running"
        )
        again.json("DELETE", "/tenant/users/bill")
        assert again.json("GET", "/tenant/users/bill")["weight"] == 1.0
