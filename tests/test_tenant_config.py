"""The TOML file of users and keys: what it means, and how it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path
from unittest import mock

import pytest

from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.server_args import prepare_server_args
from sglang.srt.tenancy.config import ConfigError, TenantConfig
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.prefix_spec import PrefixSpec
from sglang.srt.tenancy.schedule.factory import policy_class
from sglang.srt.tenancy.user_id import GATEWAY, PUBLIC


def load(tmp_path: Path, text: str) -> TenantConfig:
    path = tmp_path / "tenants.toml"
    path.write_text(text)
    return TenantConfig.load(str(path))


def test_keys_plain_and_hashed_lead_to_their_user(tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"sk-bob").hexdigest()
    config = load(
        tmp_path,
        f"""
        [users.alice]
        keys = ["sk-alice", "sk-alice-2"]
        weight = 2
        [users."bob@example.org"]
        key_hashes = ["{hashed}"]
        [gateway]
        keys = ["sk-gateway"]
        """,
    )
    assert config.holder_of("sk-alice") == config.holder_of("sk-alice-2") == "alice"
    assert config.holder_of("sk-bob") == "bob@example.org"
    assert config.holder_of("sk-gateway") == GATEWAY
    assert config.holder_of("sk-nobody") is None
    assert config.weights == {"alice": 2.0, "bob@example.org": 1.0}
    assert config.require_key
    assert config.has_gateway
    assert config.user_has_key("alice")


def test_no_key_is_kept_in_the_clear(tmp_path: Path) -> None:
    config = load(tmp_path, '[users.alice]\nkeys = ["sk-alice"]')
    assert "sk-alice" not in repr(config)


def test_weights_alone_need_no_keys(tmp_path: Path) -> None:
    config = load(tmp_path, "[users.alice]\nweight = 0.5")
    assert not config.has_keys
    assert not config.require_key


def test_the_public_has_a_weight_of_its_own(tmp_path: Path) -> None:
    assert load(tmp_path, "[public]\nweight = 3").weights == {PUBLIC: 3.0}
    assert PUBLIC not in load(tmp_path, "[users.alice]").weights
    with pytest.raises(ConfigError, match=r"public\.weight: 0 is no number above 0"):
        load(tmp_path, "[public]\nweight = 0")


def test_shares_of_the_cache(tmp_path: Path) -> None:
    text = "[users.alice]\ncache_share = 0.25\n[users.bob]\nmax_running = 1"
    shares = load(tmp_path, text).cache_shares
    assert [shares.of(user) for user in ("alice", "bob", "carol")] == [0.25, None, None]
    shares = load(tmp_path, f"[default]\ncache_share = 1\n{text}").cache_shares
    assert [shares.of(user) for user in ("alice", "bob", "carol")] == [0.25, 1.0, 1.0]
    assert not load(tmp_path, "[default]\nmax_running = 1").cache_shares


def test_public_prefixes_are_read_in_order(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [[public_prefixes]]
        name = "assistant"
        messages = [{role = "system", content = "Be kind."}]
        tools = [{type = "function", function = {name = "f"}}]
        [[public_prefixes]]
        name = "licence.v-2_0"
        text = "Permission is hereby granted"
        [[public_prefixes]]
        name = "ids"
        input_ids = [1, 2, 3]
        """,
    )
    messages = [{"role": "system", "content": "Be kind."}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert config.public_prefixes == (
        PrefixSpec("assistant", "messages", messages, tools),
        PrefixSpec("licence.v-2_0", "text", "Permission is hereby granted"),
        PrefixSpec("ids", "input_ids", [1, 2, 3]),
    )
    assert not config.has_keys
    assert "Permission" not in repr(config)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[users.alice]\nkey = ['a']", "users.alice.key"),
        ("[users.alice]\nkeys = 'a'", "users.alice.keys"),
        ("[users.alice]\nkeys = ['']", "users.alice.keys"),
        ("[users.alice]\nkeys = ['clé']", "users.alice.keys"),
        ("[users.alice]\nkeys = [' k']", "users.alice.keys"),
        ("[users.alice]\nkey_hashes = ['abc']", "users.alice.key_hashes"),
        ("[users.alice]\nweight = 0", "users.alice.weight"),
        ("[users.alice]\nweight = nan", "users.alice.weight"),
        ("[users.alice]\nweight = true", "users.alice.weight"),
        ("[users.alice]\ncache_share = 0", "users.alice.cache_share: 0 is no share"),
        ("[users.alice]\ncache_share = 1.01", "users.alice.cache_share: 1.01"),
        ("[users.alice]\ncache_share = true", "users.alice.cache_share: True"),
        ("[users.alice]\ncache_share = nan", "users.alice.cache_share: nan"),
        ("[default]\ncache_share = '10%'", "default.cache_share: '10%'"),
        ("[public]\ncache_share = 0.5", "public.cache_share"),
        ("[users.'a b']\nkeys = ['k']", "users.a b"),
        ("[users]\nalice = 'sk'", "users.alice"),
        ("users = 3", "users"),
        ("[users.a]\nkeys = ['k']\n[users.b]\nkeys = ['k']", "users.b"),
        ("require_key = 'yes'", "require_key"),
        ("require_key = true", "require_key"),
        ("[gateway]\nuser = 'x'", "gateway.user"),
        ("[users.alice", "tenants.toml"),
        ("public_prefixes = 'x'", "public_prefixes"),
        ("[public_prefixes]\nname = 'a'", "public_prefixes"),
        ("[[public_prefixes]]\ntext = 'x'", "public_prefixes[0].name"),
        ("[[public_prefixes]]\nname = 'a'", "public_prefixes[0].text"),
        ("[[public_prefixes]]\nname = 'ä'\ntext = 'x'", "public_prefixes[0].name"),
        ("[[public_prefixes]]\nname = 'a'\ntext = 3", "public_prefixes[0].text"),
        ("[[public_prefixes]]\nname = 'a'\ninput_ids = [true]", "public_prefixes[0].input_ids"),
        ("[[public_prefixes]]\nname = 'a'\nmessages = []", "public_prefixes[0].messages"),
        ("[[public_prefixes]]\nname = 'a'\ntext = 'x'\ntools = [{}]", "public_prefixes[0].tools"),
        ("[[public_prefixes]]\nname = 'a'\ntxt = 'x'", "public_prefixes[0].txt"),
        ("[[public_prefixes]]\nname='a'\ntext='x'\n" * 2, "public_prefixes[1].name"),
        (
            "\n".join(f"[[public_prefixes]]\nname='{n}'\ntext='x'" for n in range(257)),
            "public_prefixes: 257",
        ),
    ],
)
def test_a_bad_file_is_refused_by_the_name_of_the_field(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=r"tenants\.toml: ") as refused:
        load(tmp_path, text)
    assert named in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        TenantConfig.load(str(tmp_path / "nowhere.toml"))


def test_a_process_reads_the_file_once(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text("[users.alice]\nkeys = ['sk-alice']\nweight = 2")
    flags = ["--enable-tenant-cache", "--tenant-config", str(path), "--schedule-policy", "vtc"]
    with mock.patch.dict(os.environ):  # resolving arguments sets some
        args = prepare_server_args(["--model-path", str(tiny_model), *flags])
    path.write_text("[users.bob]\nkeys = ['sk-bob']")
    config = TenantConfig.of(args)
    assert config.weights == {"alice": 2}
    assert TenantConfig.of(args) is config
    path.unlink()
    assert policy_class(args, "vtc") is not SchedulePolicy
    assert TenantConfig.of(args) is config

    # No dump of the arguments shows it.
    dumps = vars(args), dataclasses.asdict(args), args
    assert not any("holders" in repr(dump) for dump in dumps)

    # Another process gets the arguments, and reads the file as it is by then.
    sent = pickle.loads(pickle.dumps(args))
    assert sent == args
    path.write_text("[users.bob]\nkeys = ['sk-bob']")
    assert TenantConfig.of(sent).user_has_key("bob")
    assert TenantConfig.of(args) is config


def test_without_a_file_nobody_has_a_key() -> None:
    options = TenantOptions()
    assert not TenantConfig.of(options).has_keys
    assert TenantConfig.of(options) is TenantConfig.of(options)
