"""Finding conversations in a tree that shows no tokens: by their lengths, and by where they part.

A conversation ends where a node ends; two part where their common tokens end. Where more than one
place fits, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from ..warming import common_length
from .prefixes import Conversation
from .tree import TreeNode

_MOST_STEPS = 50_000  # of one search

Path = list[TreeNode]


@dataclass(frozen=True)
class Place:
    """``path``: the nodes that hold a conversation. ``sure``: no others fit."""

    path: Path
    sure: bool


def place(
    conversations: Sequence[Conversation], root: TreeNode, page: int, taken: Set[str] = frozenset()
) -> dict[int, Place]:
    """Find the conversations of one user, by index; what is not there is left out.

    ``taken``: owners who are somebody else.
    """
    owners = {node.owner for node in root.walk() if node.owner is not None} - taken
    best: dict[int, Place] = {}
    for owner in [*sorted(owners), None]:
        found = _Search(conversations, root, owner, page).run()
        if len(found) > len(best):
            best = found
        elif found and len(found) == len(best) and _differ(found, best):
            best = {index: Place(held.path, sure=False) for index, held in best.items()}
    return best


def _differ(one: dict[int, Place], other: dict[int, Place]) -> bool:
    return any(index not in other or other[index].path != held.path for index, held in one.items())


@dataclass
class _Search:
    conversations: Sequence[Conversation]
    root: TreeNode
    owner: str | None
    page: int
    _best: dict[int, Path] = field(default_factory=dict)
    _unsure: set[int] = field(default_factory=set)
    _steps: int = 0

    def run(self) -> dict[int, Place]:
        covered = self._covered()
        alone = [at for at in range(len(self.conversations)) if at not in covered]
        self._ends = {at: self._candidates(at) for at in alone}
        alone.sort(key=lambda at: len(self._ends[at]))
        self._order = [at for at in alone if self._ends[at]]
        self._try(0, {})
        found = {at: Place(path, at not in self._unsure) for at, path in self._best.items()}
        for at, by in covered.items():
            if by in found:
                found[at] = self._part(found[by], len(self.conversations[at].tokens))
        return found

    def _covered(self) -> dict[int, int]:
        """Map conversations with which others begin to the longest of those."""
        by: dict[int, int] = {}
        every = sorted(
            range(len(self.conversations)), key=lambda at: -len(self.conversations[at].tokens)
        )
        for rank, at in enumerate(every):
            length = len(self.conversations[at].tokens)
            for longer in every[:rank]:
                if longer not in by and self._common(at, longer) == length:
                    by[at] = longer
                    break
        return by

    def _candidates(self, at: int) -> list[Path]:
        if not self.conversations[at].whole:
            return []
        end = self._floor(len(self.conversations[at].tokens))
        return [
            node.path
            for node in self.root.walk()
            if node.end == end and node.parent is not None and self._visible(node)
        ]

    def _visible(self, node: TreeNode) -> bool:
        return all(above.owner in (None, self.owner) for above in node.path)

    def _try(self, rank: int, placed: dict[int, Path]) -> None:
        self._steps += 1
        left = len(self._order) - rank
        if self._steps > _MOST_STEPS or len(placed) + left < len(self._best):
            return
        if not left:
            self._take(placed)
            return
        at = self._order[rank]
        for path in self._ends[at]:
            if all(self._fits(at, path, other, theirs) for other, theirs in placed.items()):
                self._try(rank + 1, {**placed, at: path})
        self._try(rank + 1, placed)

    def _take(self, placed: dict[int, Path]) -> None:
        if len(placed) > len(self._best):
            self._best, self._unsure = placed, set()
        elif placed and len(placed) == len(self._best):
            self._unsure |= {
                at
                for at in placed.keys() | self._best.keys()
                if placed.get(at) != self._best.get(at)
            }

    def _fits(self, at: int, path: Path, other: int, theirs: Path) -> bool:
        together = 0
        for one, two in zip(path, theirs, strict=False):
            if one is not two:
                break
            together = one.end
        return together == self._floor(self._common(at, other))

    def _common(self, one: int, other: int) -> int:
        return common_length(self.conversations[one].tokens, self.conversations[other].tokens)

    def _floor(self, tokens: int) -> int:
        return tokens // self.page * self.page

    def _part(self, place: Place, end: int) -> Place:
        return Place([node for node in place.path if node.start < self._floor(end)], place.sure)
