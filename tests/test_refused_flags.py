"""What the tenant cache does not cover does not start: the message names the flags."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from server_process import ServerFailed
from support.server import Server

from sglang.srt.arg_groups.arg_utils import namespace_of
from sglang.srt.server_args import ServerArgs, prepare_server_args
from sglang.srt.tenancy.flags import FIELDS, upstream_fields

ON = ["--enable-tenant-cache"]
ISOLATED = [*ON, "--tenant-mode", "isolated"]
DP = [*ON, "--tenant-promotion", "dp"]
VTC = [*ON, "--schedule-policy", "vtc"]
KEYS = '[users.alice]\nkeys = ["sk-alice"]\n'
GATEWAY = '[gateway]\nkeys = ["sk-gateway"]\n'

KEPT = [*ON, "--tenant-response-cache", "100000"]
IN_FILE = ["--tenant-response-cache-file", "kept.sqlite"]
IN_REDIS = ["--tenant-response-cache-redis", "redis://127.0.0.1/0"]
FLAGS = {
    "--tenant-public-users: 1": [*ON, "--tenant-public-users", "1"],
    "--tenant-epoch-requests: 0": [*ON, "--tenant-epoch-requests", "0"],
    "--tenant-max-connections: 0": [*ON, "--tenant-max-connections", "0"],
    "--tenant-body-timeout: nan": [*ON, "--tenant-body-timeout", "nan"],
    "--tenant-grammar-seconds: nan": [*ON, "--tenant-grammar-seconds", "nan"],
    "--tenant-grammar-seconds: 0.001": [*ON, "--tenant-grammar-seconds", "0.001"],
    "--tenant-grammar-seconds: inf": [*ON, "--tenant-grammar-seconds", "inf"],
    "--tenant-grammar-step-seconds: 0.0": [*ON, "--tenant-grammar-step-seconds", "0"],
    "--tenant-grammar-memory: 1": [*ON, "--tenant-grammar-memory", "1"],
    "--tenant-grammar-memory": ["--tenant-grammar-memory", "512"],
    "--tenant-max-body-bytes: 10": [*ON, "--tenant-max-body-bytes", "10"],
    "--tenant-media-timeout: inf": [*ON, "--tenant-media-timeout", "inf"],
    "--tenant-media-timeout: 0.0": [*ON, "--tenant-media-timeout", "0"],
    "--tenant-max-media-bytes: -1": [*ON, "--tenant-max-media-bytes", "-1"],
    "--tenant-media-host: 'http://a'": [*ON, "--tenant-media-host", "a", "http://a"],
    "--tenant-media-host does": [*ON, "--tenant-remote-media", "off", "--tenant-media-host", "a"],
    "--tenant-remote-media listed needs": [*ON, "--tenant-remote-media", "listed"],
    "--tenant-remote-media": ["--tenant-remote-media", "off"],
    "--tenant-rdr-threshold: 2.0": [*ON, "--tenant-rdr-threshold", "2"],
    "--tenant-response-cache: -1": [*ON, "--tenant-response-cache", "-1"],
    "--tenant-response-cache: 1 bytes": [*ON, "--tenant-response-cache", "1"],
    "--tenant-response-cache-ttl: 0": [*KEPT, "--tenant-response-cache-ttl", "0"],
    "--tenant-response-cache-ttl does": [*ON, "--tenant-response-cache-ttl", "5"],
    "--tenant-response-cache-share: 2": [*KEPT, "--tenant-response-cache-share", "2"],
    "--tenant-response-cache-file does": [*ON, "--tenant-response-cache-file", "a"],
    "--tenant-response-cache-file and": [*KEPT, *IN_FILE, *IN_REDIS],
    "--tenant-promotion": ["--tenant-promotion", "dp"],
    "--tenant-dp-epsilon does": [*ON, "--tenant-dp-epsilon", "0.5"],
    "--tenant-dp-period does": [*ON, "--tenant-promotion", "count", "--tenant-dp-period", "1"],
    "--tenant-dp-epsilon: 6": [*DP, "--tenant-dp-epsilon", "6"],
    "--tenant-dp-epsilon: nan": [*DP, "--tenant-dp-epsilon", "nan"],
    "--tenant-dp-epsilon: 0.0": [*DP, "--tenant-dp-epsilon", "0"],
    "--tenant-dp-delta: 0.5": [*DP, "--tenant-dp-delta", "0.5"],
    "--tenant-dp-delta: 0.0": [*DP, "--tenant-dp-delta", "0"],
    "--tenant-dp-votes: 0": [*DP, "--tenant-dp-votes", "0"],
    "--tenant-dp-period: 0": [*DP, "--tenant-dp-period", "0"],
    "--tenant-dp-window: 0": [*DP, "--tenant-dp-window", "0"],
    "--tenant-dp-window: 20 requests": [*DP, "--tenant-dp-window", "20"],
    "--tenant-dp-window: 4096 requests": [*DP, "--tenant-dp-votes", "1000"],
    "--tenant-promotion dp does not work with --tenant-mode": [*DP, "--tenant-mode", "isolated"],
    "--tenant-promotion dp does not work with --tenant-detector": [
        *DP,
        "--tenant-detector",
        "none",
    ],
    "--tenant-promotion dp does not work with --tenant-rdr": [*DP, "--tenant-rdr-threshold", "0.1"],
    "--tenant-promotion dp does not work with --pp-size": [*DP, "--pp-size", "2"],
    "--tenant-idle-ttl: -1": [*ON, "--tenant-idle-ttl", "-1"],
    "--tenant-idle-ttl: nan": [*ON, "--tenant-idle-ttl", "nan"],
    "--tenant-idle-ttl does": [*ON, "--tenant-mode", "shared", "--tenant-idle-ttl", "60"],
    "--tenant-idle-ttl": ["--tenant-idle-ttl", "60"],
    "--tenant-zeroize": ["--tenant-zeroize"],
    "--tenant-detector": ["--tenant-detector", "off-trust-all"],
    "--tenant-detector-judge reads": [*ON, "--tenant-detector", "none", "--tenant-detector-judge"],
    "--tenant-detector-judge does": [*ISOLATED, "--tenant-detector-judge"],
    "--tenant-detector-judge asks": [*ON, "--tenant-detector-judge", "--skip-tokenizer-init"],
    "--tenant-detector-model: ": [*ON, "--tenant-detector-model", "/nowhere"],
    "--disable-radix-cache": [*ISOLATED, "--disable-radix-cache"],
    "--radix-cache-backend lru": [*ISOLATED, "--radix-cache-backend", "lru"],
    "--tenant-header": ["--tenant-header", "X-User"],
    "--tenant-mode": ["--tenant-mode", "isolated"],
    "--tenant-anonymous": ["--tenant-anonymous", "reject"],
    "--tenant-config": ["--tenant-config", "users.toml"],
    "--schedule-policy vtc": ["--schedule-policy", "vtc"],
    "--tenant-output-weight": [*ON, "--tenant-output-weight", "3"],
    "--tenant-dlpm-quantum": [*VTC, "--tenant-dlpm-quantum", "100"],
    "--tenant-dlpm-quantum: 0": [*ON, "--schedule-policy", "dlpm", "--tenant-dlpm-quantum", "0"],
    "--tenant-input-weight: nan": [*VTC, "--tenant-input-weight", "nan"],
    "--tenant-cached-weight: -1": [*VTC, "--tenant-cached-weight", "-1"],
    "both 0": [*VTC, "--tenant-input-weight", "0", "--tenant-output-weight", "0"],
    "--enable-priority-scheduling": [*VTC, "--enable-priority-scheduling"],
    "--pp-size 2": [*VTC, "--pp-size", "2"],
    "--tenant-user-routes: 'plugin'": [*ON, "--tenant-user-routes", "/plugin/x", "plugin"],
    "--tenant-user-routes does": ["--tenant-user-routes", "/plugin/x"],
    "--tenant-header: 'a b'": [*ISOLATED, "--tenant-header", "a b"],
    "--grpc-port": [*ISOLATED, "--grpc-port", "50051"],
    "--speculative-algorithm": [*ISOLATED, "--speculative-algorithm", "NGRAM"],
    "--is-embedding": [*ISOLATED, "--is-embedding"],
    "--disaggregation-mode prefill": [*ISOLATED, "--disaggregation-mode", "prefill"],
    "--enable-streaming-session": [*ON, "--enable-streaming-session"],
    "--enable-lmcache": [*ISOLATED, "--enable-lmcache"],
    "--hicache-write-policy write_back": [*ON, "--hicache-write-policy", "write_back"],
}


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Arguments are resolved in this process, and leave choices for the server's others in it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize("named", FLAGS)
def test_flags_are_refused_by_name(tiny_model: Path, named: str) -> None:
    os.environ[PROCESS_KEY] = "0f" * 32
    with pytest.raises(ValueError, match=r"tenant|schedule") as refused:
        prepare_server_args(["--model-path", str(tiny_model), *FLAGS[named]])
    assert named in str(refused.value)


def test_private_promotion_starts_with_its_defaults(
    tiny_model: Path,
) -> None:
    for more in ([], ["--tenant-rdr-threshold", "0"], ["--tenant-dp-epsilon", "2"]):
        args = prepare_server_args(["--model-path", str(tiny_model), *DP, *more])
        assert args.tenant_promotion == "dp"


def test_data_parallel_ranks_share_one_promise(tiny_model: Path) -> None:
    flags = ["--tenant-dp-epsilon", "0.1", "--dp-size", "16", "--tenant-dp-window", "2000"]
    with pytest.raises(ValueError, match=r"--tenant-dp-window.*epsilon 0\.00625"):
        prepare_server_args(["--model-path", str(tiny_model), *DP, *flags])


PROCESS_KEY = "SGLANG_TENANT_PROCESS_KEY"
TWO_NODES = ["--nnodes", "2", "--dist-init-addr", "127.0.0.1:9999", "--tp-size", "2"]


@pytest.mark.parametrize("key", ["", "secret", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n"])
def test_a_process_key_that_is_no_key_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(PROCESS_KEY, key)
    with pytest.raises(ValueError, match=rf"{PROCESS_KEY}: {len(key)} characters.*openssl") as told:
        prepare_server_args(["--model-path", str(tiny_model), *ON])
    assert not key or key not in str(told.value)
    assert prepare_server_args(["--model-path", str(tiny_model)])  # nobody needs it there


@pytest.mark.parametrize("flags", [IN_FILE, IN_REDIS], ids=["file", "redis"])
def test_answers_that_outlive_a_server_need_a_process_key(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    arguments = ["--model-path", str(tiny_model), *KEPT, *flags]
    monkeypatch.delenv(PROCESS_KEY, raising=False)
    with pytest.raises(ValueError, match=rf"{flags[0]}: .*{PROCESS_KEY}, which is not set"):
        prepare_server_args(arguments)
    monkeypatch.setenv(PROCESS_KEY, "0f" * 32)
    assert prepare_server_args(arguments)


def test_several_nodes_need_one_process_key(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--model-path", str(tiny_model), *ON]
    monkeypatch.delenv(PROCESS_KEY, raising=False)
    with pytest.raises(ValueError, match=rf"{PROCESS_KEY}: not set, and --nnodes is 2.*openssl"):
        prepare_server_args([*flags, *TWO_NODES])
    assert PROCESS_KEY not in os.environ
    assert prepare_server_args(flags)
    assert len(bytes.fromhex(os.environ[PROCESS_KEY])) == 32
    monkeypatch.setenv(PROCESS_KEY, "0f" * 32)
    assert prepare_server_args([*flags, *TWO_NODES])
    assert os.environ[PROCESS_KEY] == "0f" * 32


def test_every_argument_has_a_namespace_that_upstream_knows() -> None:
    """Upstream publishes what its processes read by namespace, and tests that none is missing."""
    spaces = namespace_of(ServerArgs)
    assert set(spaces) == {field.name for field in dataclasses.fields(ServerArgs)}
    known = {spaces[name] for name in upstream_fields(ServerArgs)}
    assert {spaces[name] for name in FIELDS} <= known


@pytest.mark.parametrize("mode", ["shared", "isolated", "selective"])
def test_the_rest_is_taken(tiny_model: Path, mode: str) -> None:
    flags = [*ON, "--tenant-mode", mode, "--enable-hierarchical-cache"]
    args = prepare_server_args(["--model-path", str(tiny_model), *flags])
    assert args.radix_cache_backend == "tenant"


@pytest.mark.parametrize("mode", ["shared", "isolated", "selective"])
def test_storage_and_events_are_taken(tiny_model: Path, mode: str) -> None:
    flags = [*ON, "--tenant-mode", mode, "--enable-hierarchical-cache"]
    flags += ["--hicache-storage-backend", "file", "--kv-events-config", '{"publisher": "null"}']
    assert prepare_server_args(["--model-path", str(tiny_model), *flags])


CONFIGS = {
    "--api-key": (KEYS, ["--api-key", "sk-all"]),
    "--tenant-header": (GATEWAY, []),
    "users.alice.weight": ("[users.alice]\nweight = 0\n", []),
    "user_id_list": ("user_id_list = 1\n", []),
    "users.a b": ('[users."a b"]\n', []),
    "no user has a key": ("require_key = true\n", []),
    "[[public_prefixes]]": ("[[public_prefixes]]\nname = 'a'\ntext = 'x'\n", []),
    "cache_share": ("[default]\ncache_share = 0.5\n", ["--tenant-mode", "shared"]),
    "already belongs": (KEYS + GATEWAY.replace("sk-gateway", "sk-alice"), []),
}


@pytest.mark.parametrize("named", CONFIGS)
def test_configs_are_refused_by_name(tiny_model: Path, tmp_path: Path, named: str) -> None:
    config, flags = CONFIGS[named]
    path = tmp_path / "tenants.toml"
    path.write_text(config)
    flags = [*ISOLATED, "--tenant-config", str(path), *flags]
    with pytest.raises(ValueError, match="tenant") as refused:
        prepare_server_args(["--model-path", str(tiny_model), *flags])
    assert named in str(refused.value)
    assert "--tenant-config" in str(refused.value)
    assert "sk-" not in str(refused.value)


@pytest.mark.server
def test_a_broken_config_ends_the_start(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text("[users")
    flags = (*ISOLATED, "--tenant-config", str(path))
    with (
        pytest.raises(ServerFailed, match=r"ended with code [1-9]") as failed,
        Server(tiny_model, *flags),
    ):
        pass
    assert f"--tenant-config {path}: Expected" in str(failed.value)
