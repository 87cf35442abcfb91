"""The prefixes that an operator declared public."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from sglang.srt.tenancy.cache.core.tokens import common_prefix


@dataclass(slots=True)
class _Branch:
    """Tokens that several prefixes share, or that only one has."""

    tokens: array[int]
    ends: bool  # whether a prefix ends here
    children: dict[int, _Branch] = field(default_factory=dict)  # by their first token


class Published:
    """Token sequences in a radix tree: whatever is registered, a prompt is compared once."""

    def __init__(self, page_size: int):
        self.page_size = page_size
        self._root = _Branch(array("q"), ends=False)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, tokens: Sequence[int]) -> None:
        """Idempotent. Raises ValueError if there is not one whole page."""
        sequence = self._whole_pages(tokens)
        branch, at = self._root, 0
        while at < len(sequence):
            child = branch.children.get(sequence[at])
            if child is None:
                child = _Branch(sequence[at:], ends=False)
                branch.children[sequence[at]] = child
            shared = common_prefix(child.tokens, sequence, at, len(sequence))
            if shared < len(child.tokens):
                _split(child, shared)
            branch, at = child, at + shared
        self._count += not branch.ends
        branch.ends = True

    def remove(self, tokens: Sequence[int]) -> array[int]:
        """Returns what was removed. Raises ValueError if it was not there."""
        sequence = self._whole_pages(tokens)
        path, at = self._descend(sequence, len(sequence))
        last = path[-1]
        if at < len(sequence) or not last.ends or sum(len(b.tokens) for b in path) > at:
            raise ValueError("tokens: no published prefix has these tokens")
        last.ends = False
        self._count -= 1
        above = path[-2]
        if not last.children:
            del above.children[last.tokens[0]]
            last = above
        if last is not self._root and not last.ends and len(last.children) == 1:
            _join(last)
        return sequence

    def covers(self, tokens: array[int], end: int) -> int:
        """How many of the first ``end`` tokens, in whole pages, begin a published prefix."""
        _, longest = self._descend(tokens, end)
        return longest // self.page_size * self.page_size

    def _descend(self, tokens: array[int], end: int) -> tuple[list[_Branch], int]:
        """The branches that the first ``end`` tokens lead through, and how many of the tokens
        they have; the last one may have more."""
        path, at = [self._root], 0
        while at < end:
            child = path[-1].children.get(tokens[at])
            if child is None:
                break
            path.append(child)
            shared = common_prefix(child.tokens, tokens, at, end)
            at += shared
            if shared < len(child.tokens):
                break
        return path, at

    def _whole_pages(self, tokens: Sequence[int]) -> array[int]:
        end = len(tokens) // self.page_size * self.page_size
        if not end:
            raise ValueError(
                f"tokens: {len(tokens)} of them do not fill a page of {self.page_size}"
            )
        return array("q", tokens[:end])


def _split(branch: _Branch, at: int) -> None:
    """Cut a branch in two, after ``at`` tokens."""
    below = _Branch(branch.tokens[at:], branch.ends, branch.children)
    branch.tokens, branch.ends = branch.tokens[:at], False
    branch.children = {below.tokens[0]: below}


def _join(branch: _Branch) -> None:
    """Make one of a branch, at which nothing ends, and its only child."""
    (child,) = branch.children.values()
    branch.tokens += child.tokens
    branch.ends, branch.children = child.ends, child.children
