"""Isolation with more than one of each: tensor-parallel ranks, replicas, tokenizer workers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.asks import Asker
from support.operator import Operator
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy
from support.reload import reload
from support.server import Server

pytestmark = pytest.mark.server

ISOLATED = ("--enable-tenant-cache", "--tenant-mode", "isolated", "--enable-cache-report")
POOL = 1024  # tokens


@pytest.fixture(scope="module")
def two_ranks(tiny_model: Path) -> Iterator[Asker]:
    """One model over two processes, whose trees must agree; a hierarchical cache, page size 1."""
    with Server(
        tiny_model,
        *(*ISOLATED, "--tp-size", "2", "--max-total-tokens", str(POOL)),
        *("--enable-hierarchical-cache", "--hicache-ratio", "8"),
        *("--schedule-policy", "dlpm", "--tenant-dlpm-quantum", "200"),
        env={"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"},
    ) as server:
        yield Asker(server)


def cached(reply: dict[str, Any]) -> int:
    return int(reply["meta_info"]["cached_tokens"])


def test_ranks_evict_and_load_back_for_the_owner(two_ranks: Asker, tiny_model: Path) -> None:
    prompt, alice = fresh_prompt(300), fresh_user()
    two_ranks.generate(text=prompt, user_id=alice)
    for _ in range(2 * POOL // 300):
        two_ranks.generate(text=fresh_prompt(300), user_id=fresh_user())
    assert cached(two_ranks.generate(text=prompt, user_id=fresh_user())) == 0
    back = two_ranks.generate(text=prompt, user_id=alice)
    assert back["meta_info"]["cached_tokens_details"]["host"] >= 200
    assert is_greedy(tiny_model, list(prompt.encode()), back["output_ids"])


def test_ranks_take_turns_alike(two_ranks: Asker) -> None:
    """Ranks that chose different requests would hang, or say something else."""
    users = [fresh_user() for _ in range(4)]
    beginnings = [fresh_prompt(60) for _ in users]

    def ask(number: int) -> int:
        text = beginnings[number % 4] + fresh_prompt(20)
        reply = two_ranks.generate(text=text, user_id=users[number % 4])
        return int(reply["meta_info"]["completion_tokens"])

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(ask, range(120))) == [4] * 120


def test_ranks_keep_nothing_of_scope_none(two_ranks: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    two_ranks.generate(text=prompt, user_id=alice, cache_scope="none")
    two_ranks.generate(text=prompt)
    assert cached(two_ranks.generate(text=prompt, user_id=alice)) == 0


def test_ranks_share_nothing_in_a_batch(two_ranks: Asker) -> None:
    prompt, users = fresh_prompt(60), [fresh_user() for _ in range(8)]
    replies = two_ranks.generate(text=[prompt] * 8, user_id=users)
    assert [cached(reply) for reply in replies] == [0] * 8
    again = two_ranks.generate(text=[prompt] * 8, user_id=users)
    assert [cached(reply) for reply in again] == [59] * 8


KEYS = {fresh_user(): f"sk-{secrets.token_hex(12)}" for _ in range(4)}


def as_config(keys: dict[str, str]) -> str:
    return "\n".join(f'[users."{user}"]\nkeys = ["{key}"]' for user, key in keys.items())


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tenants.toml"
    path.write_text(as_config(KEYS))
    return path


@pytest.fixture(scope="module")
def replicas(tiny_model: Path, config_file: Path) -> Iterator[Server]:
    """Two replicas behind two HTTP processes."""
    with Server(
        tiny_model,
        *(*ISOLATED, "--dp-size", "2", "--tokenizer-worker-num", "2"),
        *("--max-total-tokens", "4096", "--tenant-config", str(config_file)),
        *("--schedule-policy", "vtc"),
    ) as server:
        yield server


def holders(server: Server) -> list[Asker]:
    return [Asker(server, key) for key in KEYS.values()]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_replica_serves_a_prefix_to_its_owner(replicas: Server, rank: int) -> None:
    prompt, (alice, bob, *_) = fresh_prompt(), holders(replicas)
    routed: dict[str, Any] = {"text": prompt, "routed_dp_rank": rank}
    alice.generate(**routed)
    assert cached(bob.generate(**routed)) < 16
    assert cached(alice.generate(**routed)) == 149


def test_a_replica_is_chosen_by_header(replicas: Server) -> None:
    prompt, keys = fresh_prompt(), list(KEYS.values())
    alice, bob = (Asker(replicas, key, {"X-Data-Parallel-Rank": "1"}) for key in keys[:2])
    alice.ask("chat", prompt)
    assert not bob.ask("chat", prompt).hit
    assert alice.ask("chat", prompt).hit


def fresh_connections(asker: Asker, count: int = 40) -> list[int]:
    """The status of that many requests at once: each connects anew, to either process."""

    def ask(_: int) -> int:
        body = {"text": "x", "sampling_params": {"max_new_tokens": 1}}
        return asker.post("/generate", body, anew=True).status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(count)))


def test_every_http_process_knows_the_keys(replicas: Server) -> None:
    prompt, (alice, bob, *_) = fresh_prompt(), holders(replicas)
    assert set(fresh_connections(alice)) == {200}
    assert set(fresh_connections(Asker(replicas))) == {401}
    assert set(fresh_connections(Asker(replicas, "sk-unknown"))) == {401}
    routed: dict[str, Any] = {"text": prompt, "routed_dp_rank": 0}
    alice.generate(**routed)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda asker: asker.generate(**routed), [alice, bob] * 10))
    assert [cached(reply) for reply in replies[::2]] == [149] * 10
    # Bob's first to be served finds nothing; which that is depends on the way through HTTP.
    assert min(cached(reply) for reply in replies[1::2]) < 16


@pytest.mark.parametrize(("process", "number"), [("Scheduler", 2), ("Detokenizer Manager", 1)])
def test_collections_leave_out_what_start_up_made(
    replicas: Server, process: str, number: int
) -> None:
    """HTTP processes do too; that several of them do is not logged by upstream."""
    line = f"Freezing GC in {process} process"
    until(lambda: replicas.log.count(line) >= number, line)


def test_no_process_spins_while_nobody_asks(replicas: Server) -> None:
    before = replicas.running.processor_seconds()
    time.sleep(2)
    assert replicas.running.processor_seconds() - before < 1


def test_without_an_admin_key_operators_endpoints_are_shut(replicas: Server) -> None:
    alice = holders(replicas)[0]
    for path in ("/flush_cache", "/tenant/selftest"):
        refused = alice.post(path)
        assert refused.status_code == 403
        assert "--admin-api-key" in refused.json()["error"]["message"]


def test_every_http_process_reloads(replicas: Server, config_file: Path) -> None:
    newcomer = Asker(replicas, f"sk-{secrets.token_hex(12)}")
    assert set(fresh_connections(newcomer)) == {401}
    processes = {process.pid for process in replicas.processes()}
    reload(replicas, config_file, as_config(KEYS | {fresh_user(): newcomer.key or ""}))
    assert set(fresh_connections(newcomer)) == {200}
    reload(replicas, config_file, as_config(KEYS))
    assert set(fresh_connections(newcomer)) == {401}
    assert set(fresh_connections(holders(replicas)[0])) == {200}
    assert {process.pid for process in replicas.processes()} == processes


@pytest.mark.parametrize(
    "flags", [("--tp-size", "2"), ("--dp-size", "2", "--tokenizer-worker-num", "2")]
)
def test_scan_results_and_the_time_reach_every_rank(
    tiny_model: Path, flags: tuple[str, ...]
) -> None:
    """Three users make a prompt public, on the rank that served them; so does the time, which
    takes what is private to those who are gone."""
    on = ("--enable-tenant-cache", "--enable-cache-report", "--max-total-tokens", "8192")
    expiring = ("--tenant-idle-ttl", "8", "--admin-api-key", "adm-x")
    with Server(tiny_model, *on, *expiring, *flags) as server:
        asker, prompt = Asker(server), fresh_prompt(400)
        routed: dict[str, Any] = {"routed_dp_rank": 0} if "--dp-size" in flags else {}
        first = dict(routed)

        def strangers_hit() -> int:
            return cached(asker.generate(text=prompt, user_id=fresh_user(), **routed))

        for _ in range(3):
            asker.generate(text=prompt, user_id=fresh_user(), **routed)
        until(lambda: strangers_hit() >= 300, "the prompt is public")
        if routed:
            routed["routed_dp_rank"] = 1
            assert cached(asker.generate(text=prompt, user_id=fresh_user(), **routed)) == 0
        operator = Operator(server, "adm-x")

        def tokens() -> list[tuple[int, int]]:
            replicas = operator.json("GET", "/tenant/stats")["replicas"]
            return [(each["device"]["private"], each["device"]["public"]) for each in replicas]

        key = {"Authorization": "Bearer adm-x"}
        with httpx.stream("GET", f"{server.url}/tenant/live", headers=key, timeout=60) as live:
            lines = live.iter_lines()
            frame = orjson.loads(next(lines))
        assert len(frame["replicas"]) == len(frame["trees"]) == len(tokens())
        assert {change["kind"] for change in frame["changes"]} >= {"promoted", "merged"}
        assert {change["replica"] for change in frame["changes"]} == set(range(len(tokens())))
        assert any(private for private, _ in tokens())
        until(lambda: not any(private for private, _ in tokens()), "users expire")
        assert sum(public for _, public in tokens()) >= 300
        assert cached(asker.generate(text=prompt, user_id=fresh_user(), **routed | first)) >= 300
