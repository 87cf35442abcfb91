"""What the analysis finds in real trees, by lengths alone, is what lies there."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

import pytest
from support.core_engine import CoreEngine
from support.engine import Setting

from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.cache.core.node import Node
from sglang.tenant_client.analysis import findings, tree
from sglang.tenant_client.analysis.placement import Place, place
from sglang.tenant_client.analysis.prefixes import Conversation, in_common
from sglang.tenant_client.analysis.tree import TreeNode, Trees

OUTPUT = 4  # tokens of an answer; of the last nothing is held


def make(rng: random.Random, users: list[str], number: int) -> list[tuple[str, array[int]]]:
    """Conversations that begin as another one did, somewhere, or anew."""
    made: list[tuple[str, array[int]]] = []
    for _ in range(number):
        start: array[int] = array("q")
        if made and rng.random() < 0.8:
            start = rng.choice(made)[1]
            start = start[: rng.randrange(len(start) + 1)]
        rest = [rng.randrange(1, 50) for _ in range(rng.randrange(5, 60))]
        made.append((rng.choice(users), start + array("q", rest)))
    return made


def shown(on: CoreEngine) -> tuple[TreeNode, dict[int, Node]]:
    """The tree as an operator gets it, and the real node behind each one."""
    root = tree._node(report.tree(on.core, 32, 2000), 0, None)
    return root, dict(_behind(root, on.core.tree.root))


def _behind(one: TreeNode, real: Node) -> Iterator[tuple[int, Node]]:
    yield id(one), real
    for child, below in zip(one.children, real.children.values(), strict=True):
        yield from _behind(child, below)


def tokens_on(held: Place, behind: dict[int, Node]) -> list[int]:
    return [token for node in held.path for token in behind[id(node)].key.token_ids]


@pytest.mark.parametrize("mode", ["isolated", "selective"])
@pytest.mark.parametrize("page", [1, 4])
@pytest.mark.parametrize("seed", range(15))
def test_what_is_sure_is_right(seed: int, page: int, mode: str) -> None:
    rng = random.Random(seed)
    on = CoreEngine(Setting(page_size=page, mode=mode, public_users=2))
    said = make(rng, ["alice", "bob", "carol"], 14)
    held: list[tuple[str, array[int]]] = []
    for user, prompt in said:
        task = begin_and_end(on, user, prompt)
        held.append((user, task))
    root, behind = shown(on)
    found_sure = 0
    for user in ("alice", "bob", "carol"):
        own = [
            Conversation(str(at), 0, tokens, whole=True)
            for at, (whose, tokens) in enumerate(held)
            if whose == user
        ]
        for index, there in place(own, root, page).items():
            tokens = list(own[index].tokens)
            if there.sure:
                found_sure += 1
                end = len(tokens) // page * page
                assert tokens_on(there, behind)[:end] == tokens[:end]
    assert found_sure >= len(said) // 2, "nothing is evicted, and few are alike"


def begin_and_end(on: CoreEngine, user: str, prompt: array[int]) -> array[int]:
    """Serve a request; return what of it is held."""
    task = on.new_task(user, prompt)
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 99)
    for _ in range(OUTPUT - 1):
        on.step(task, 99)
    on.finish(task)
    on.check()
    return task.tokens[: task.computed]


def test_two_places_that_fit_are_not_sure() -> None:
    on = CoreEngine(Setting(mode="isolated"))
    held = begin_and_end(on, "alice", array("q", range(1, 20)))
    begin_and_end(on, "bob", array("q", range(101, 120)))
    root, _ = shown(on)
    own = [Conversation("x", 0, held, whole=True)]
    (there,) = place(own, root, 1).values()
    assert not there.sure


def test_what_is_not_there_is_not_found() -> None:
    on = CoreEngine(Setting(mode="isolated"))
    begin_and_end(on, "alice", array("q", range(1, 20)))
    root, _ = shown(on)
    assert place([Conversation("x", 0, tuple(range(1, 25)), whole=True)], root, 1) == {}


@pytest.mark.parametrize("seed", range(10))
def test_prefixes_partition_what_was_said(seed: int) -> None:
    rng = random.Random(seed)
    said = [Conversation(str(at), 0, tokens, whole=True)
            for at, (_, tokens) in enumerate(make(rng, ["x"], 12))]  # fmt: skip
    pending = in_common(said)
    lengths = dict.fromkeys(range(len(said)), 0)
    while pending:
        prefix = pending.pop()
        pending += prefix.children
        first = said[prefix.members[0]].tokens[prefix.start : prefix.end]
        for member in prefix.members:
            assert said[member].tokens[prefix.start : prefix.end] == first
            lengths[member] += prefix.end - prefix.start
        others = set(range(len(said))) - set(prefix.members)
        assert all(said[at].tokens[: prefix.end] != said[prefix.members[0]].tokens[: prefix.end]
                   for at in others)  # fmt: skip
    assert lengths == {at: len(one.tokens) for at, one in enumerate(said)}


def test_what_is_public_is_held_once_for_all() -> None:
    on = CoreEngine(Setting(mode="selective"))
    common = list(range(1, 31))
    on.cache.publish(common)
    said = [("alice", [*common, 50, 41]), ("alice", [*common, 50, 52, 53]), ("bob", [*common, 60])]
    held = [begin_and_end(on, user, array("q", tokens)) for user, tokens in said]
    root, _ = shown(on)
    trees = Trees("selective", 1, [root])
    known = [
        Conversation(str(at), int(said[at][0] == "bob"), tokens, whole=True)
        for at, tokens in enumerate(held)
    ]
    places = findings._places(known, trees)
    rows = [row for top in in_common(known) for row in findings._rows(top, known, places, 1)]
    whole = findings.Findings(trees, rows, {one.name: one.group for one in known})
    assert (rows[0].start, rows[0].end, rows[0].held) == (0, 30, findings.PUBLIC)
    assert rows[0].names == ("0", "1", "2")
    assert {row.held for row in rows[1:]} == {findings.PRIVATE}
    assert whole.held == on.core.device.evictable
    assert whole.held + whole.saved == sum(map(len, held))


def test_savings_are_counted_by_copies() -> None:
    """Two of alice's conversations and one of bob's begin alike; private, there are two copies."""
    on = CoreEngine(Setting(mode="isolated"))
    common = list(range(1, 31))
    said = [("alice", [*common, 40, 41]), ("alice", [*common, 50]), ("bob", [*common, 60, 61, 62])]
    held = [begin_and_end(on, user, array("q", tokens)) for user, tokens in said]
    root, _ = shown(on)
    trees = Trees("isolated", 1, [root])
    known = [
        Conversation(str(at), 0 if said[at][0] == "alice" else 1, tokens, whole=True)
        for at, tokens in enumerate(held)
    ]
    places = findings._places(known, trees)
    rows = [
        row
        for prefix in in_common(known)
        for row in findings._rows(prefix, known, places, trees.page)
    ]
    whole = findings.Findings(trees, rows, {one.name: one.group for one in known})
    assert [row.names for row in rows[:2]] == [("0", "1"), ("2",)]
    assert [row.saves for row in rows[:2]] == [len(common), 0]
    assert whole.held == on.core.device.evictable
    assert whole.saved == len(common)
