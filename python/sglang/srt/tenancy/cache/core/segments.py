"""What each owner holds on one tier, and how much of it is protected.

Tokens are on *probation* until a later request comes for them, then *protected* for the epoch
in which it came and the next one: the two segments of segmented LRU (Karedla, Love and Wherry,
"Caching Strategies to Improve Disk System Performance", 1994), but each owner's are counted
apart, and nothing moves when time passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sglang.srt.tenancy.cache.core.node import PUBLIC, Node
from sglang.srt.tenancy.cache.core.owner_sizes import OwnerSizes
from sglang.srt.tenancy.cache.core.window import EpochCounter


class Segments:
    """Counts tokens by owner; owners who hold nothing leave nothing behind.

    ``weights``: owner -> weight, 1 for whoever is missing.
    """

    def __init__(self, clock: EpochCounter, weights: Mapping[str, float]):
        self._clock = clock
        self._weights = weights
        self.epoch = clock.epoch  # of the counts; ``age`` brings them to the clock's
        self.sizes = OwnerSizes()
        # Owner -> tokens that were last asked for again in this epoch, and in the one before.
        self._asked_again: dict[str, list[int]] = {}
        # Owner -> the epoch in which they last came again, whether they hold something or not:
        # or whoever loses all they have would leave more to the rest.
        self._returning: dict[str, int] = {}
        self._holding = 0.0  # weights of the owners who hold something, the public aside
        self._claiming = 0.0  # of those who come again

    def resize(self, node: Node, tokens: int) -> int:
        """The owner of a node holds so many tokens of it more, or fewer. Returns what is held."""
        owner = node.owner
        before = self.sizes.get(owner, 0)
        size = before + tokens
        if size:
            self.sizes[owner] = size
        else:
            del self.sizes[owner]
        if owner and (not before) != (not size):
            self._holding += self._weight(owner) if size else -self._weight(owner)
        age = self.epoch - node.asked_again
        if age < 2:
            self._protect(owner, age, tokens)
        return size

    def move(self, node: Node, before: str, tokens: int) -> None:
        """A node's tokens, counted for the owner before, count for its owner from now on."""
        owner, node.owner = node.owner, before
        self.resize(node, -tokens)
        node.owner = owner
        self.resize(node, tokens)

    def ask_again(self, node: Node, tokens: int) -> None:
        """A later request came for a node; ``node.asked_again`` says still when one did last."""
        owner, age = node.owner, self.epoch - node.asked_again
        if age and tokens:
            self._protect(owner, 0, tokens)
            if age == 1:
                self._protect(owner, 1, -tokens)

    def come_back(self, owner: str) -> None:
        """An owner sent a request, not the first in the window."""
        if owner not in self._returning:
            self._claiming += self._weight(owner)
        self._returning[owner] = self.epoch

    def is_protected(self, node: Node) -> bool:
        return self.epoch - node.asked_again < 2

    def protected(self, owner: str) -> int:
        """Tokens that later requests came for in this epoch and the one before."""
        counts = self._asked_again.get(owner)
        return counts[0] + counts[1] if counts else 0

    def probation(self, owner: str) -> int:
        return self.sizes.get(owner, 0) - self.protected(owner)

    @property
    def holders(self) -> tuple[float, bool]:
        """The weights of all owners who hold something, and whether something is public."""
        return self._holding, PUBLIC in self.sizes

    @property
    def claims(self) -> tuple[float, bool]:
        """The same of owners who came twice in the window."""
        return self._claiming, PUBLIC in self.sizes

    def returning(self) -> Collection[str]:
        """Those owners."""
        return self._returning.keys()

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """The weights are others from now on."""
        self._weights = weights
        self._holding = sum(self._weight(owner) for owner in self.sizes if owner)
        self._claiming = sum(self._weight(owner) for owner in self._returning)

    def age(self) -> list[str]:
        """Bring the counts to the clock's epoch; to be done before anything else is asked or
        told. Returns the owners who had something protected.

        They are no more than had requests in two epochs, so each request pays for a few.
        """
        passed = self._clock.epoch - self.epoch
        self.epoch = self._clock.epoch
        before = self._asked_again
        self._asked_again = {
            owner: [0, recent] for owner, (recent, _) in before.items() if passed == 1 and recent
        }
        self._returning = {
            owner: epoch for owner, epoch in self._returning.items() if self.epoch - epoch < 2
        }
        self._claiming = sum(self._weight(owner) for owner in self._returning)
        return list(before)

    def _protect(self, owner: str, age: int, tokens: int) -> None:
        counts = self._asked_again.setdefault(owner, [0, 0])
        counts[age] += tokens
        if counts == [0, 0]:
            del self._asked_again[owner]

    def _weight(self, owner: str) -> float:
        return self._weights.get(owner, 1.0)
