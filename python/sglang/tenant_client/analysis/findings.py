"""From conversations and trees to what is shared, where, and what that saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ..session_state import SessionState
from ..steps import Steps
from .placement import Place, place
from .prefixes import Conversation, Prefix, conversation, in_common
from .tree import TreeNode, Trees, fetch

PUBLIC, PRIVATE, NOT_FOUND = "public", "private", "not found"


@dataclass(frozen=True)
class Row:
    """Tokens from ``start`` to ``end`` that some have in common, and that lie in one place.

    ``names``: of the sessions; ``held``: PUBLIC, PRIVATE or NOT_FOUND. ``sure``: no other place of
    the tree fits. ``hits``, ``users``: in the window.
    """

    start: int
    end: int
    names: tuple[str, ...]
    held: str
    sure: bool = True
    hits: int = 0
    users: int = 0
    tiers: str = ""

    @property
    def saves(self) -> int:
        """Tokens that would be held besides, if each session had its own."""
        return 0 if self.held == NOT_FOUND else (self.end - self.start) * (len(self.names) - 1)


@dataclass(frozen=True)
class Findings:
    """``rows``: every part of every conversation, parents first. ``names``: of the sessions, and
    whose they are. ``faults``: of sessions that could not be looked for."""

    trees: Trees
    rows: list[Row]
    names: dict[str, int]
    faults: list[str] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Tokens that the server holds for the sessions."""
        return sum(row.end - row.start for row in self.rows if row.held != NOT_FOUND)

    @property
    def saved(self) -> int:
        """Tokens that it would hold besides, if nothing were shared."""
        return sum(row.saves for row in self.rows)


def analyse(groups: Sequence[Sequence[SessionState]]) -> Steps[Findings]:
    """Look for sessions in the server's tree; each group's are of one user.

    Raises Refused where the server does not show its tree.
    """
    trees = yield from fetch()
    known: list[Conversation] = []
    faults: list[str] = []
    for group, states in enumerate(groups):
        for state in states:
            found = yield from conversation(state, group, len(known) + len(faults))
            if len(groups) > 1 and not isinstance(found, str):
                found = replace(found, name=f"{group + 1}:{found.name}")
            if isinstance(found, str):
                faults.append(found)
            else:
                known.append(found)
    places = _places(known, trees)
    rows = [row for top in in_common(known) for row in _rows(top, known, places, trees.page)]
    return Findings(trees, rows, {one.name: one.group for one in known}, faults)


def _places(known: Sequence[Conversation], trees: Trees) -> dict[int, Place]:
    places: dict[int, Place] = {}
    taken: set[str] = set()  # no owner is two users
    for group in dict.fromkeys(one.group for one in known):
        indices = [at for at, one in enumerate(known) if one.group == group]
        own = [known[at] for at in indices]
        found = [place(own, root, trees.page, taken) for root in trees.roots]
        best = max(found, key=len, default={})
        places |= {indices[at]: held for at, held in best.items()}
        taken |= {node.owner for held in best.values() for node in held.path if node.owner}
    return places


def _rows(
    prefix: Prefix, known: Sequence[Conversation], places: dict[int, Place], page: int
) -> list[Row]:
    start, end = prefix.start // page * page, prefix.end // page * page
    # What is public ends somewhere, and what is private begins.
    cuts = {_public_end(places[at]) for at in prefix.members if at in places}
    ends = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
    rows = [
        row for part in pairwise(ends) for row in _part_rows(*part, prefix.members, known, places)
    ]
    return rows + [row for child in prefix.children for row in _rows(child, known, places, page)]


def _public_end(place: Place) -> int:
    return max((node.end for node in place.path if node.owner is None), default=0)


def _part_rows(
    start: int,
    end: int,
    members: Sequence[int],
    known: Sequence[Conversation],
    places: dict[int, Place],
) -> list[Row]:
    here = [at for at in members if at in places and _covers(places[at], end)]
    away = tuple(known[at].name for at in members if at not in here)
    rows = []
    for alike, nodes in _by_nodes(start, end, here, places):
        names = tuple(known[at].name for at in alike)
        rows.append(_row(start, end, names, nodes, sure=all(places[at].sure for at in alike)))
    return rows + ([Row(start, end, away, NOT_FOUND)] if away else [])


def _by_nodes(
    start: int, end: int, here: Sequence[int], places: dict[int, Place]
) -> list[tuple[list[int], list[TreeNode]]]:
    """Group those whose tokens lie in the same nodes: what is private lies there once by user."""
    groups: dict[tuple[int, ...], tuple[list[int], list[TreeNode]]] = {}
    for at in here:
        nodes = [node for node in places[at].path if node.start < end and node.end > start]
        groups.setdefault(tuple(map(id, nodes)), ([], nodes))[0].append(at)
    return list(groups.values())


def _row(
    start: int, end: int, names: tuple[str, ...], nodes: Sequence[TreeNode], *, sure: bool
) -> Row:
    return Row(
        start,
        end,
        names,
        PUBLIC if all(node.owner is None for node in nodes) else PRIVATE,
        sure=sure,
        hits=max(node.hits for node in nodes),
        users=max(node.users for node in nodes),
        tiers=_tiers(nodes),
    )


def _covers(place: Place, end: int) -> bool:
    return bool(place.path) and place.path[-1].end >= end


def _tiers(nodes: Sequence[TreeNode]) -> str:
    names = {"device": any(node.device for node in nodes), "host": any(node.host for node in nodes)}
    return "+".join(name for name, there in names.items() if there)
