"""What the policy needs of an engine: keys, slots, memory, transfers, and whom to tell of blocks.

An adapter has one object for each. Nothing here or in this package is upstream's or torch's, so the
policy can be run, tested and simulated without an engine.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sglang.srt.tenancy.cache.core.node import Node


class TierName(Enum):
    DEVICE = "device"
    HOST = "host"


class Slots(Protocol):
    """KV slots of consecutive tokens, one a token, whole pages in their order."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Slots: ...


class Key(Protocol):
    """Tokens, and to whom they belong.

    ``extra_key``: a ``Namespace`` if they are private, else the engine's own extra key, or None.
    """

    token_ids: array[int]
    extra_key: Any

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


class KeyType(Protocol):
    """Makes keys."""

    def __call__(self, token_ids: array[int], extra_key: Any, /) -> Any: ...


class Memory(Protocol):
    """The slots of both tiers."""

    def concat(self, parts: Sequence[Any]) -> Any:
        """Join slots of consecutive tokens; a copy."""

    def copy(self, slots: Any) -> Any: ...

    def numbers(self, slots: Any) -> list[int]:
        """Return the slots' numbers, for checks."""

    def available(self) -> int:
        """Return how many device slots are free."""

    def free_device(self, slots: Any) -> None: ...

    def free_host(self, slots: Any) -> None: ...

    def synchronize(self) -> None:
        """Wait for all batches that were launched."""


class Transfers(Protocol):
    """Copies between the device, the host and storage."""

    def under_way(self) -> Iterable[Hashable]:
        """Name all transfers that read or write host memory now."""

    def record_hit(self, node: Node, chunked: bool) -> None:
        """Note that an inserted prefix passed a node on the device, which may be worth a copy."""

    def split(self, upper: Node, lower: Node) -> None:
        """Have what is under way for a node, now two, reach both."""

    def move_host_copy(self, node: Node, successor: Node) -> None:
        """Have a copy that is being written for a node reach its successor."""


class BlockEvents(Protocol):
    """Names of a node's pages, in storage and events, and who hears of them."""

    def created(self, node: Node) -> None:
        """Name the pages of a new leaf, and tell of them on the tier that has it."""

    def stored(self, node: Node, tier: TierName) -> None: ...

    def removed(self, node: Node, tier: TierName) -> None: ...

    def split(self, upper: Node, lower: Node, tokens: int) -> None:
        """Divide the names of a node whose first ``tokens`` are another node's now."""

    def join(self, node: Node, child: Node) -> None:
        """Give the child, which takes its parent in, the names of both."""

    def withdraw(self, top: Node) -> None:
        """Take back the names of a node and all below, before its scope or place changes."""

    def announce(self, top: Node) -> None:
        """Give a node and all below the names that go with their new scope or place."""

    def removed_everywhere(self, node: Node) -> None: ...


class NoTransfers:
    """An engine without a host tier."""

    def under_way(self) -> Iterable[Hashable]:
        return ()

    def record_hit(self, node: Node, chunked: bool) -> None:
        pass

    def split(self, upper: Node, lower: Node) -> None:
        pass

    def move_host_copy(self, node: Node, successor: Node) -> None:
        pass
