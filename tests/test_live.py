"""The live page's stream: of a real server, and the sampler alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from array import array
from collections import deque
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.asks import Asker
from support.core_engine import CoreEngine, Key
from support.engine import Setting
from support.operator import Operator, fresh_admin_key, refusal_of
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.cache.core.changes import RecentChanges
from sglang.srt.tenancy.control.messages import Live, refused
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http.live import LiveResponse
from sglang.srt.tenancy.http.live_sampler import MOST_VIEWERS, Sampler, Viewer
from sglang.srt.tenancy.namespace import Namespace
from sglang.srt.tenancy.user_id import digest

ADMIN_KEY, API_KEY, ANNE = fresh_admin_key(), "sk-everybody", "anne-of-team-1"
CONFIG = f"[users.{ANNE}]\ncache_share = 0.5\n"


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-mode", "selective", "--tenant-config", str(config)),
        *("--admin-api-key", ADMIN_KEY, "--api-key", API_KEY, "--max-total-tokens", "4096"),
        *("--enable-hierarchical-cache", "--hicache-ratio", "2"),
        *("--schedule-policy", "vtc", "--enable-metrics", "--enable-cache-report"),
    ) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(server, ADMIN_KEY)


@contextlib.contextmanager
def frames(server: Server, query: str = "every=0.5") -> Iterator[Iterator[dict[str, Any]]]:
    """Watch, over a connection of its own."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    url = f"{server.url}/tenant/live?{query}"
    with httpx.stream("GET", url, headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "application/x-ndjson"
        assert response.headers["cache-control"] == "no-store"
        yield (orjson.loads(line) for line in response.iter_lines())


def watched(operator: Operator) -> tuple[int, int]:
    """How many watch, and how often the schedulers were asked for that."""
    stats = operator.json("GET", "/tenant/stats")
    return stats["live"]["viewers"], stats["replicas"][0]["watched"]


# A real server


def test_a_frame_holds_what_the_page_shows_and_no_content(
    server: Server, operator: Operator
) -> None:
    prompt = fresh_prompt(200)
    asker = Asker(server, API_KEY)
    asker.generate(text=prompt, user_id=ANNE)
    with frames(server) as lines:
        frame = next(lines)
    assert (frame["type"], frame["process"]["mode"]) == ("frame", "selective")
    assert frame["process"]["detector"]["running"] in (True, False)
    assert frame["process"]["limiter"].keys() == {"running", "queued", "admitted", "refused"}
    assert len(frame["replicas"]) == len(frame["trees"]) == 1
    for replica, tree in zip(frame["replicas"], frame["trees"], strict=True):
        device = replica["stats"]["device"]
        assert device["private"] >= 200
        allowed = {"device": int(0.5 * device["capacity"])}
        allowed["host"] = int(0.5 * replica["stats"]["host"]["capacity"])
        (hers,) = (entry for entry in replica["held"] if entry["owner"] == _hash(server, ANNE))
        for tier, tokens in allowed.items():
            assert hers[tier] == {"tokens": hers[tier]["tokens"], "allowed": tokens}
            assert hers[tier]["tokens"] >= 200
        assert replica["queue"]["policy"] == "vtc"
        names = tree["columns"]
        rows = [dict(zip(names, row, strict=True)) for row in tree["nodes"]]
        assert sum(row["tokens"] for row in rows if row["tiers"] & 1) == (
            device["private"] + device["public"]
        )
        assert tree["root_children"] == sum(row["parent"] == -1 for row in rows)
        assert all(row["parent"] < index for index, row in enumerate(rows))
        assert _hash(server, ANNE) in tree["owners"]
    said = orjson.dumps(frame).decode()
    assert ANNE not in said
    assert prompt[:40] not in said


def _hash(server: Server, user: str) -> str:
    """The user's hash, as the answer to an erasure of somebody else's shows that of theirs."""
    known = _hashes.get((server.url, user))
    if known is None:
        with frames(server) as lines:
            held = [entry for replica in next(lines)["replicas"] for entry in replica["held"]]
        (known,) = {entry["owner"] for entry in held if "allowed" in entry["device"]}
        _hashes[server.url, user] = known
    return known


_hashes: dict[tuple[str, str], str] = {}


def test_what_happens_is_told_once_and_with_the_owners_hash(
    server: Server, operator: Operator
) -> None:
    user = fresh_user()
    Asker(server, API_KEY).generate(text=fresh_prompt(80), user_id=user)
    with frames(server) as lines:
        for change in next(lines)["changes"]:  # of the self-test, before anybody watched
            assert change["time"] is None
        whose = operator.json("DELETE", f"/tenant/users/{user}/cache")["user"]
        told: list[dict[str, Any]] = []
        for frame in lines:
            told += frame["changes"]
            if told:
                break
        told += next(lines)["changes"]
    assert [(one["kind"], one["owner"], one["replica"]) for one in told] == [("erased", whose, 0)]
    assert told[0]["tokens"] >= 80
    assert told[0]["time"]
    with frames(server) as lines:  # who comes later is told too
        assert next(lines)["changes"][-1:] == told


def runs(frame: dict[str, Any]) -> bool:
    assert frame["type"] == "frame", "the stream ended before anything ran"
    return bool(frame["replicas"][0]["queue"]["running"])


def test_those_who_run_and_wait_are_shown_by_hash(server: Server) -> None:
    user = fresh_user()
    asker = Asker(server, API_KEY)
    body = {
        "text": fresh_prompt(20),
        "user_id": user,
        "stream": True,
        "sampling_params": {"max_new_tokens": 2000, "ignore_eos": True},
    }
    headers = asker.all_headers
    url = f"{server.url}/generate"
    with (
        frames(server) as lines,
        httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer,
    ):
        words = answer.iter_lines()
        next(words)
        queue = next(frame for frame in lines if runs(frame))["replicas"][0]["queue"]
    assert [(entry["waiting"], entry["running"]) for entry in queue["users"]] == [(0, 1)]
    assert queue["users"][0]["service"] > 0
    assert re.fullmatch("[0-9a-f]{16}", queue["users"][0]["user"])
    assert user not in str(queue)


def test_one_sampler_serves_all_and_ends_with_the_last(server: Server, operator: Operator) -> None:
    until(lambda: watched(operator)[0] == 0, "nobody watches")
    _, before = watched(operator)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(frames(server)) for _ in range(4)]
        seen = [{next(lines)["sample"] for _ in range(4)} for lines in streams]
        assert watched(operator)[0] == 4
    until(lambda: watched(operator)[0] == 0, "all are seen to have gone")
    _, after = watched(operator)
    numbers = set.union(*seen)
    # Each sample was the schedulers' one answer, whoever was shown it. A few more were taken while
    # the streams were read one after another.
    assert after - before == operator.json("GET", "/tenant/stats")["live"]["samples"] - (
        min(numbers) - 1
    )
    assert len(numbers) < sum(len(some) for some in seen)
    for _ in range(20):
        assert watched(operator) == (0, after)


def test_one_viewer_too_many_is_refused(server: Server, operator: Operator) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(frames(server, "every=60")) for _ in range(MOST_VIEWERS)]
        assert [next(lines)["type"] for lines in streams] == ["frame"] * MOST_VIEWERS
        refusal = operator.ask("GET", "/tenant/live")
        assert refusal.status_code == 429
        assert refusal.json()["error"]["param"] == "viewers"
        assert "close a page" in refusal.json()["error"]["message"]
    until(lambda: watched(operator)[0] == 0, "all are seen to have gone")
    with frames(server) as lines:
        assert next(lines)["type"] == "frame"


@pytest.mark.parametrize("every", ["0.4", "61", "x", "nan", "-1", "", "1" * 400])
def test_a_period_out_of_range_is_refused(operator: Operator, every: str) -> None:
    assert "give 0.5 to 60 seconds" in refusal_of(
        operator.ask("GET", f"/tenant/live?every={every}"), 400, "every"
    )


def test_the_stream_needs_the_admin_key(server: Server) -> None:
    for key in (None, "wrong", API_KEY):
        assert Operator(server, key).ask("GET", "/tenant/live").status_code == 401


def test_the_page_needs_no_key_and_may_run_nothing_but_its_own(server: Server) -> None:
    response = Operator(server, None).ask("GET", "/tenant/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    for name, value in {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }.items():
        assert response.headers[name] == value
    rules = dict(
        rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; ")
    )
    for name in ("default-src", "frame-ancestors", "base-uri", "form-action"):
        assert rules.pop(name) == "'none'"
    assert rules.pop("connect-src") == "'self'"
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", response.text, re.DOTALL)
        found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{found}'"
    assert not rules
    assert not re.search(r"https?://|\son\w+=|\sstyle=|\ssrc=", response.text)
    # Only the page is open, and only to be read.
    assert Operator(server, None).ask("GET", "/tenant/stats").status_code == 401
    assert Operator(server, None).ask("POST", "/tenant/").status_code == 401
    assert Operator(server, None).ask("GET", "/tenant/x").status_code == 401


# The sampler alone


class Schedulers:
    """Answers as two replicas would. ``hang``: how many questions get no answer."""

    def __init__(self, hang: int = 0) -> None:
        self.asked: list[Live] = []
        self.under_way = 0
        self.happened: list[list[dict[str, Any]]] = [[], []]
        self.hang = hang

    async def ask(self, request: Live) -> list[dict[str, Any]]:
        self.asked.append(request)
        self.under_way += 1
        try:
            await asyncio.sleep(3600 if len(self.asked) <= self.hang else 0)
        finally:
            self.under_way -= 1
        return [
            {
                "stats": {"admitted": len(self.asked)},
                "changes": [
                    change
                    for change in happened
                    if change["number"] > (request.seen[rank] if request.seen else 0)
                ],
                "tree": {"nodes": [rank]} if request.nodes else None,
                "seconds": 0.0,
            }
            for rank, happened in enumerate(self.happened)
        ]


async def read(lines: AsyncIterator[bytes]) -> dict[str, Any]:
    line = await asyncio.wait_for(anext(lines), 30)
    return dict(orjson.loads(line))


async def test_nothing_is_asked_unless_somebody_watches() -> None:
    schedulers = Schedulers()
    sampler = Sampler(schedulers.ask)
    await asyncio.sleep(0.05)
    assert (len(schedulers.asked), sampler.running) == (0, False)
    with sampler.viewing(0.5) as viewer:
        assert (await read(sampler.lines(viewer)))["sample"] == 1
    assert not sampler.running
    asked = len(schedulers.asked)
    await asyncio.sleep(0.8)
    assert (len(schedulers.asked), schedulers.under_way) == (asked, 0)


async def test_a_question_under_way_ends_with_the_last_viewer() -> None:
    schedulers = Schedulers(hang=1)
    sampler = Sampler(schedulers.ask)
    with sampler.viewing(1):
        while not schedulers.under_way:
            await asyncio.sleep(0)
    while schedulers.under_way:
        await asyncio.sleep(0)
    with sampler.viewing(1) as viewer:
        assert (await read(sampler.lines(viewer)))["sample"] == 1


async def test_who_reads_slowly_skips_frames_and_no_change() -> None:
    schedulers = Schedulers()
    sampler = Sampler(schedulers.ask)
    with sampler.viewing(0.5) as quick, sampler.viewing(0.5) as slow:
        quick_lines, slow_lines = sampler.lines(quick), sampler.lines(slow)
        assert (await read(slow_lines))["changes"] == []
        for number in (1, 2, 3):
            schedulers.happened[1].append({"number": number})
            last = await read(quick_lines)
        while last["sample"] < 4:
            last = await read(quick_lines)
        late = await read(slow_lines)
    assert late["sample"] >= last["sample"]
    assert [(one["replica"], one["number"]) for one in late["changes"]] == [
        (1, 1),
        (1, 2),
        (1, 3),
    ]


async def test_each_viewer_gets_a_tree_once() -> None:
    schedulers = Schedulers()
    sampler = Sampler(schedulers.ask)
    with sampler.viewing(0.5) as first:
        lines = sampler.lines(first)
        assert (await read(lines))["trees"] == [{"nodes": [0]}, {"nodes": [1]}]
        assert "trees" not in await read(lines)
        with sampler.viewing(0.5) as second:
            assert "trees" in await read(sampler.lines(second))
    assert [bool(request.nodes) for request in schedulers.asked][:2] == [True, False]


async def test_viewers_are_bounded_and_a_place_is_free_again() -> None:
    sampler = Sampler(Schedulers().ask, most_viewers=1)
    with sampler.viewing(1):
        with pytest.raises(RequestError) as caught, sampler.viewing(1):
            pass
        assert (caught.value.status_code, sampler.viewers) == (429, 1)
    with sampler.viewing(1):
        assert sampler.viewers == 1


async def test_it_goes_on_after_a_question_that_was_refused() -> None:
    schedulers = Schedulers()
    failed = False

    async def ask(request: Live) -> list[dict[str, Any]]:
        nonlocal failed
        if not failed:
            failed = True
            raise refused(503, "schedulers", "no answer")
        return await schedulers.ask(request)

    sampler = Sampler(ask)
    with sampler.viewing(0.5) as viewer:
        assert (await read(sampler.lines(viewer)))["sample"] == 1


# Connections that die


async def respond(sampler: Sampler, send: Any, **seconds: float) -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "path": "/tenant/live"}
    response = LiveResponse(sampler, 0.5, **seconds)
    await asyncio.wait_for(response(scope, receive, send), 30)


async def test_a_viewer_that_takes_nothing_more_is_given_up() -> None:
    sampler = Sampler(Schedulers().ask)
    sent = 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal sent
        sent += 1
        if sent == 3:
            await asyncio.sleep(3600)

    await respond(sampler, send, send_seconds=0.2)
    assert (sent, sampler.viewers, sampler.running) == (3, 0, False)


async def test_a_stream_ends_and_says_so() -> None:
    sampler = Sampler(Schedulers().ask)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await respond(sampler, send, stream_seconds=0.1)
    assert sent[-1] == {
        "type": "http.response.body",
        "body": b'{"type":"end"}\n',
        "more_body": False,
    }
    assert (sampler.viewers, sampler.running) == (0, False)


async def test_a_client_that_goes_away_is_no_viewer_any_more() -> None:
    sampler = Sampler(Schedulers().ask)
    gone = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            gone.set()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "path": "/tenant/live"}
    await asyncio.wait_for(LiveResponse(sampler, 0.5)(scope, receive, send), 30)
    assert (sampler.viewers, sampler.running) == (0, False)


# What lately changed


def test_changes_are_bounded_numbered_and_name_nobody() -> None:
    changes = RecentChanges(kept=3)
    assert changes.since(0) == []
    for tokens in range(5):
        changes.note("merged", 7, tokens, "alice")
    assert [(one.number, one.tokens) for one in changes.since(0)] == [(3, 2), (4, 3), (5, 4)]
    assert [one.number for one in changes.since(4)] == [5]
    assert changes.since(5) == []
    assert {one.owner for one in changes.since(0)} == {digest("alice")}
    changes.note("demoted", 7, 1)
    assert changes.since(5)[0].owner is None


def test_a_viewer_is_one_viewer() -> None:
    assert len({Viewer(1, 0), Viewer(1, 0)}) == 2


# The tree in rows


def grown(owners: int, public: int) -> CoreEngine:
    """A tree of so many owners' prefixes, and after them public ones; one is below another."""
    on = CoreEngine(Setting(device_tokens=4096))
    for number in range(owners):
        key = Key(array("q", range(number, number + 4)), Namespace(f"user-{number}", None))
        on.core.insert(key, on.device.take(4))
    for number in range(public):
        on.core.insert(Key(array("q", range(1000 + number, 1004 + number))), on.device.take(4))
    below = Key(array("q", range(1000, 1010)), Namespace("user-0", None))
    on.core.insert(below, on.device.take(10))
    return on


def shown(on: CoreEngine, nodes: int) -> tuple[dict[str, Any], list[dict[str, int]]]:
    found = report.rows(on.core, nodes)
    return found, [dict(zip(found["columns"], row, strict=True)) for row in found["nodes"]]


def test_rows_tell_what_the_tree_tells() -> None:
    on = grown(20, 3)
    found, rows = shown(on, 100)
    said = [
        (
            rows[row["parent"]]["tokens"] if row["parent"] >= 0 else 0,
            found["owners"][row["owner"]] if row["owner"] >= 0 else None,
            *(row["tokens"], bool(row["tiers"] & 1), row["hits"], row["children"]),
        )
        for row in rows
    ]
    expected = []
    pending = deque([report.tree(on.core, 32, 100)])
    while pending:
        entry = pending.popleft()
        for child in entry["children"]:
            hits = child["hit_cur"] + child["hit_pre"]
            whose = (entry["tokens"], child["owner"], child["tokens"])
            expected.append((*whose, child["device"], hits, child["child_count"]))
            pending.append(child)
    assert sorted(said, key=repr) == sorted(expected, key=repr)
    assert len(rows) == 24
    assert len({row["id"] for row in rows}) == len(rows)


def test_where_not_all_can_be_shown_the_public_and_the_latest_are() -> None:
    on = grown(20, 3)
    found, rows = shown(on, 8)
    whose = [found["owners"][row["owner"]] if row["owner"] >= 0 else None for row in rows]
    assert whose == [None] * 3 + [digest(f"user-{number}") for number in range(19, 14, -1)]
    assert found["root_children"] == 23
    assert len(shown(on, 2)[1]) == 2
