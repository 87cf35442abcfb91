"""Endpoints for operators on a real server with a host tier."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.asks import Asker
from support.operator import Operator, fresh_admin_key, refusal_of
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

pytestmark = pytest.mark.server

ADMIN_KEY = fresh_admin_key()
POOL = 4096  # tokens; nothing is evicted


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
        *("--admin-api-key", ADMIN_KEY, "--max-total-tokens", str(POOL)),
        *("--enable-hierarchical-cache", "--hicache-ratio", "2"),
        *("--tenant-epoch-requests", "8", "--enable-metrics"),
        *("--tenant-detector", "none"),
    ) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(server, ADMIN_KEY)


ENDPOINTS = [
    ("GET", "/tenant/stats"),
    ("GET", "/tenant/tree"),
    ("GET", "/tenant/public_prefixes"),
    ("POST", "/tenant/public_prefixes"),
    ("DELETE", "/tenant/public_prefixes?name=x"),
    ("GET", "/tenant/public_hashes"),
    ("POST", "/tenant/public_hashes"),
    ("DELETE", "/tenant/users/alice/cache"),
    ("DELETE", "/tenant/users/team/alice/cache"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_only_the_admin_key_opens_it(server: Server, method: str, path: str) -> None:
    for key in (None, "wrong"):
        assert Operator(server, key).ask(method, path, {"text": "x" * 99}).status_code == 401


def stats(operator: Operator, query: str = "") -> dict[str, Any]:
    """The one replica's."""
    answer = operator.json("GET", f"/tenant/stats{query}")
    assert answer["mode"] == "selective"
    (replica,) = answer["replicas"]
    return dict(replica)


def settled(operator: Operator) -> dict[str, Any]:
    """When no copy to the host is under way any more, which protects what it reads."""
    until(lambda: stats(operator)["device"]["protected"] == 0, "all is copied")
    return stats(operator)


def test_stats_follow_the_tree(server: Server, operator: Operator) -> None:
    alice, prompt = fresh_user(), fresh_prompt(200)
    before = stats(operator)
    Asker(server).generate(text=prompt, user_id=alice)
    after = settled(operator)
    assert after["admitted"] == before["admitted"] + 1
    assert after["epoch"] == after["admitted"] // 8
    for tier in ("device", "host"):
        assert after[tier]["private"] - before[tier]["private"] == 203
        assert after[tier]["owners"] == before[tier]["owners"] + 1
        assert after[tier]["public"] == before[tier]["public"]
    device = after["device"]
    assert device["capacity"] == POOL
    assert device["protected"] == 0
    assert device["evictable"] == device["private"] + device["public"]
    assert {"owner", "tokens"} == set(device["largest_owners"][0])
    assert alice not in str(after)


def test_stats_list_the_largest_owners_first(server: Server, operator: Operator) -> None:
    for length in (60, 90, 75):
        Asker(server).generate(text=fresh_prompt(length), user_id=fresh_user())
    assert stats(operator, "?owners=0")["device"]["largest_owners"] == []
    two = stats(operator, "?owners=2")["device"]["largest_owners"]
    sizes = [
        entry["tokens"] for entry in stats(operator, "?owners=100")["device"]["largest_owners"]
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert [entry["tokens"] for entry in two] == sizes[:2]


def test_the_self_test_leaves_nothing_behind(operator: Operator) -> None:
    before = settled(operator)
    assert operator.json("POST", "/tenant/selftest")["passed"]
    after = settled(operator)
    assert after["admitted"] > before["admitted"]
    for tier in ("device", "host"):
        assert after[tier] == before[tier]


def test_published_tokens_are_counted_as_public(server: Server, operator: Operator) -> None:
    text, before = fresh_prompt(64), stats(operator)
    name = operator.publish(text=text)["name"]
    assert stats(operator)["public_prefixes"] == before["public_prefixes"] + 1
    Asker(server).generate(text=text + "x" * 20, user_id=fresh_user())
    assert stats(operator)["device"]["public"] == before["device"]["public"] + 64
    operator.withdraw(name)
    assert stats(operator)["device"]["public"] == before["device"]["public"]


def tree(operator: Operator, query: str = "") -> dict[str, Any]:
    (replica,) = operator.json("GET", f"/tenant/tree{query}")["replicas"]
    return dict(replica)


def nodes(entry: dict[str, Any], level: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every node, and how far below the root it is."""
    yield level, entry
    for child in entry["children"]:
        yield from nodes(child, level + 1)


def test_the_tree_shows_shape_and_owners_never_content(server: Server, operator: Operator) -> None:
    # Two prefixes that begin alike would share a node.
    text, alice, bob = "#" + fresh_prompt(63), fresh_user(), fresh_user()
    name = operator.publish(text=text)["name"]
    for user in (alice, bob):
        Asker(server).generate(text=text + fresh_prompt(30), user_id=user)
    answer = operator.ask("GET", "/tenant/tree?depth=32&nodes=2000")
    root = answer.json()["replicas"][0]
    for _, node in nodes(root):
        assert not node["truncated"]
        assert len(node["children"]) == node["child_count"]
        assert (node["owner"] is None) == (node["scope"] == "public")
    ours = [node for _, node in nodes(root) if (node["tokens"], node["scope"]) == (64, "public")]
    assert any({child["scope"] for child in node["children"]} == {"private"} for node in ours)
    public = next(node for node in ours if node["child_count"] == 2)
    assert public["hit_cur"] + public["hit_pre"] == 2
    assert public["u_cnt_l"] + public["u_pre"] == 2
    assert (public["device"], public["lock_ref"]) == (True, 0)
    assert len({child["owner"] for child in public["children"]}) == 2
    for secret in (text, alice, bob, str(list(text.encode()))[1:30]):
        assert secret not in answer.text
    operator.withdraw(name)


def test_the_tree_is_bounded(server: Server, operator: Operator) -> None:
    for _ in range(3):
        Asker(server).generate(text=fresh_prompt(20), user_id=fresh_user())
    few = tree(operator, "?nodes=2")
    assert len(list(nodes(few))) == 3
    assert few["truncated"]
    shallow = tree(operator, "?depth=1&nodes=2000")
    assert max(level for level, _ in nodes(shallow)) == 1
    assert not shallow["truncated"]
    for _, node in nodes(shallow):
        assert node["truncated"] == (len(node["children"]) < node["child_count"])


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/tenant/tree?depth=33", "depth"),
        ("/tenant/tree?depth=0", "depth"),
        ("/tenant/tree?depth=-1", "depth"),
        ("/tenant/tree?depth=", "depth"),
        ("/tenant/tree?nodes=2001", "nodes"),
        ("/tenant/tree?nodes=1e3", "nodes"),
        ("/tenant/tree?nodes=%D9%A3", "nodes"),
        (f"/tenant/tree?nodes={'9' * 5000}", "nodes"),
        ("/tenant/stats?owners=101", "owners"),
        ("/tenant/stats?owners=x", "owners"),
    ],
)
def test_a_number_out_of_range_is_refused(operator: Operator, path: str, param: str) -> None:
    assert "give an integer from" in refusal_of(operator.ask("GET", path), 400, param)


def test_erasing_frees_a_user_on_both_tiers_and_nobody_else(
    server: Server, operator: Operator
) -> None:
    alice, bob = fresh_user(), fresh_user()
    assert "/" in alice
    # Two that begin alike would share a token.
    prompts = ["+" + fresh_prompt(99), "-" + fresh_prompt(99)]
    for prompt in prompts:
        for user in (alice, bob):
            Asker(server).generate(text=prompt, user_id=user)
    before = stats(operator)
    answer = operator.json("DELETE", f"/tenant/users/{alice}/cache")
    assert answer["freed_tokens"] == {"device": 206, "host": 206, "storage": 0}
    assert answer["not_reached"] == []
    after = stats(operator)
    for tier in ("device", "host"):
        assert before[tier]["private"] - after[tier]["private"] == 206
    hits = [cached(server, prompts[0], user) for user in (alice, bob)]
    assert hits == [0, 99]
    assert operator.json("DELETE", f"/tenant/users/{fresh_user()}/cache")["freed_tokens"] == {
        "device": 0,
        "host": 0,
        "storage": 0,
    }


def test_stats_count_what_is_under_way(server: Server, operator: Operator) -> None:
    def counts() -> dict[str, int]:
        return dict(operator.json("GET", "/tenant/stats")["process"])

    names = ("open_requests", "engine_requests", "engine_calls", "running", "waiting")
    nothing = dict.fromkeys(names, 0)
    until(lambda: counts() == nothing, "all is quiet")
    long = {"max_new_tokens": 600, "ignore_eos": True, "n": 3}
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(Asker(server).generate, text=fresh_prompt(9), sampling_params=long)
        until(lambda: counts()["engine_calls"] == 1, "it is let in")
        seen = counts()
        assert not asked.done()
        assert seen["open_requests"] == 1
        assert seen["engine_requests"] >= 1
        assert (seen["running"], seen["waiting"]) == (3, 0)
        asked.result()
    until(lambda: counts() == nothing, "it is over")


def test_a_request_that_runs_when_its_user_is_erased_leaves_nothing(
    server: Server, operator: Operator
) -> None:
    alice = fresh_user()
    prompts = [f"{letter}{fresh_prompt(89)}" for letter in "AB"]  # neither begins as the other
    long = {"max_new_tokens": 400, "ignore_eos": True, "temperature": 0}

    def ask(prompt: str) -> int:
        reply = Asker(server).generate(text=prompt, user_id=alice, sampling_params=long)
        return int(reply["meta_info"]["completion_tokens"])

    cached(server, prompts[0], alice)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask, prompt) for prompt in prompts]
        until(lambda: stats(operator)["device"]["protected"] > 150, "both run")
        operator.json("DELETE", f"/tenant/users/{alice}/cache")
        assert not any(request.done() for request in running)
        assert [request.result() for request in running] == [400, 400]
    assert [cached(server, prompt, alice) for prompt in prompts] == [0, 0]
    freed = operator.json("DELETE", f"/tenant/users/{alice}/cache")["freed_tokens"]
    assert freed["device"] < 2 * 120  # of the last two, which had short answers


def test_an_erased_users_sessions_are_closed(server: Server, operator: Operator) -> None:
    alice, bob = fresh_user(), fresh_user()
    asker = Asker(server)
    for user in (alice, bob):
        body = {"capacity_of_str_len": 4096, "session_id": "talk", "user_id": user}
        assert asker.post("/open_session", body).json() == "talk"

    def turn(user: str) -> int:
        body = {"text": fresh_prompt(20), "user_id": user, "session_params": {"id": "talk"}}
        return asker.post("/generate", body).status_code

    assert (turn(alice), turn(bob)) == (200, 200)
    assert operator.json("DELETE", f"/tenant/users/{alice}/cache")["closed_sessions"] == 1
    assert (turn(alice), turn(bob)) == (400, 200)


def cached(server: Server, prompt: str, user: str) -> int:
    reply = Asker(server).generate(text=prompt, user_id=user)
    return int(reply["meta_info"]["cached_tokens"])


def test_what_is_no_user_is_refused(operator: Operator) -> None:
    for name in ("a%20b", "x" * 129, "?anonymous".replace("?", "%3F")):
        refusal_of(operator.ask("DELETE", f"/tenant/users/{name}/cache"), 400, "user_id")


def test_neither_log_nor_metrics_name_the_erased(server: Server, operator: Operator) -> None:
    alice, bob = fresh_user(), fresh_user()
    operator.json("DELETE", f"/tenant/users/{alice}/cache")
    Operator(server, "wrong").ask("DELETE", f"/tenant/users/{bob}/cache")
    Operator(server, "wrong").ask("DELETE", f"/tenant/users/{bob.replace('/', '%2F')}/cache?x=1")
    log = server.log
    assert "/tenant/users/#" in log
    metrics = server.http.get("/metrics").text
    for secret in (alice, bob, bob.replace("/", "%2F"), ADMIN_KEY):
        assert secret not in log
        assert secret not in metrics
