"""Count votes of users for prefixes, so that what becomes public tells little of any one of them.

docs/private-promotion.md says what this guarantees, and proves it. What the proof rests on: a
user's votes follow from that user's requests and from what is public alone; they are bounded; and
they are looked at once, when a voting window of so many admitted requests ends.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

from sglang.srt.tenancy.cache.core.child_index import ChildIndex
from sglang.srt.tenancy.cache.core.node import (
    LOGICALLY_FREED,
    NO_PROMOTE,
    VOTED,
    Node,
    private_path,
)
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.scan_results import ScanResults
from sglang.srt.tenancy.cache.core.vote_threshold import VoteThreshold
from sglang.srt.tenancy.user_id import account_name, is_own


class VoteBudget:
    """What users have voted in this period, and the thresholds. Outlives a flush.

    ``secret``: of one life of the server, and shared by all ranks that have the same tree. With one
    that was used before, an attacker could have learnt thresholds in advance.
    """

    def __init__(self, options: PolicyOptions, secret: bytes):
        votes = options.dp_votes
        self.threshold = VoteThreshold(
            options.dp_epsilon / votes, options.dp_delta / votes, options.public_users
        )
        self.window_requests = options.dp_window
        self._period, self._votes = options.dp_period, votes
        self._key = hashlib.blake2b(secret, digest_size=32).digest()
        self.window = 0  # how many have ended
        self._spent: dict[bytes, int] = {}

    def left(self, user: str) -> int:
        """Count the votes that a user has still got in this period."""
        return self._votes - self._spent.get(self._hashed(user), 0)

    def spend(self, user: str) -> None:
        name = self._hashed(user)
        self._spent[name] = self._spent.get(name, 0) + 1

    def _hashed(self, user: str) -> bytes:
        return hashlib.blake2b(user.encode(), key=self._key, digest_size=16).digest()

    def name(self, extra_key: object, tokens: array[int]) -> bytes:
        """Hash a prefix."""
        state = hashlib.blake2b(repr(extra_key).encode(), key=self._key, digest_size=32)
        state.update(b"\0")
        state.update(memoryview(tokens).cast("B"))
        return state.digest()

    def threshold_of(self, prefix: bytes, window: int) -> int:
        """Return how many votes a prefix needs in a window: a coin for both, tossed once."""
        content = window.to_bytes(8, "little") + prefix
        coin = hashlib.blake2b(content, key=self._key, digest_size=8, person=b"threshold").digest()
        return self.threshold.at((int.from_bytes(coin, "little") >> 11) / (1 << 53))

    def end_window(self) -> None:
        self.window += 1
        if self.window % self._period == 0:
            self._spent.clear()


class Ballot:
    """The votes of the current window. ``index``: of the tree in which the voters' nodes are."""

    def __init__(self, budget: VoteBudget, index: ChildIndex, results: ScanResults):
        self.budget = budget
        self._index = index
        self._results = results
        # Name of a prefix -> who votes for it -> their private node that ends there.
        self._votes: dict[bytes, dict[str, Node]] = {}

    def vote(self, last: Node) -> None:
        """Cast a vote of a request's user, whose path ends at ``last``: for what this user's own
        requests have in common first, below what is public."""
        common = None
        node = last
        while node.owner:
            if len(node.children) > 1:
                common = node
            assert node.parent is not None
            node = node.parent
        if common is None or common.state & VOTED or is_own(common.owner):
            return
        user = account_name(common.owner)
        if not self.budget.left(user):
            return
        prefix = self.budget.name(common.key.extra_key.extra_key, _tokens_down_to(common))
        voters = self._votes.setdefault(prefix, {})
        if user in voters:  # for another copy: the one before may be gone
            voters[user].state &= ~VOTED
        else:
            self.budget.spend(user)
        voters[user] = common
        common.state |= VOTED

    def forget(self, owner: str) -> None:
        """Take back the votes of an owner who is erased. Those of the period stay spent."""
        user = account_name(owner)
        for prefix, voters in list(self._votes.items()):
            node = voters.get(user)
            if node is not None and node.owner == owner:
                del voters[user]
                node.state &= ~VOTED
                if not voters:
                    del self._votes[prefix]

    def stats(self, admitted: int) -> dict[str, int]:
        """Tell an operator how far the window is. To anybody else this would tell exact counts."""
        requests = self.budget.window_requests
        return {
            "windows": self.budget.window,
            "requests_left": requests - admitted % requests,
            "prefixes": len(self._votes),
            "votes": sum(map(len, self._votes.values())),
        }

    def end_window(self) -> list[Node]:
        """Count, and forget, the votes. Returns for each prefix that has enough of them a private
        node that ends there.

        A vote counts while its user still holds the prefix, found harmless in their own copy and
        not kept private. Who else found what in it does not count.
        """
        chosen = [
            counted[0]
            for prefix, voters in self._votes.items()
            if len(voters) >= self.budget.threshold.least
            if len(counted := list(filter(self._counts, voters.values())))
            >= self.budget.threshold_of(prefix, self.budget.window)
        ]
        for node in self._nodes():
            node.state &= ~VOTED
        self._votes.clear()
        self.budget.end_window()
        return chosen

    def _nodes(self) -> Iterator[Node]:
        for voters in self._votes.values():
            yield from voters.values()

    def _counts(self, node: Node) -> bool:
        if node.state & LOGICALLY_FREED or not node.state & VOTED:
            return False
        assert node.parent is not None
        if node.parent.children.get(self._index.child_key(node)) is not node:
            return False  # it was evicted
        path = private_path(node)
        if any(part.state & NO_PROMOTE for part in path):
            return False
        return self._results.harmless(path) == sum(len(part.key) for part in path)


def _tokens_down_to(node: Node) -> array[int]:
    parts = []
    while node.parent is not None:
        parts.append(node.key.token_ids)
        node = node.parent
    tokens: array[int] = array("q")
    for part in reversed(parts):
        tokens += part
    return tokens
