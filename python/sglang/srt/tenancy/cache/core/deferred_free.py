"""Free slots only when nothing that was started before can still use them.

A tree that merges, demotes or erases takes slots from requests that run. Two kinds of work may
still use such slots: batches that were launched already (their page tables are fixed, and under
overlap scheduling the scheduler goes on while they run), and copies between device, host and
storage. Upstream frees only what nobody else reads, so it needs neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

from sglang.srt.tenancy.cache.core.interfaces import Memory


class DeviceFrees:
    """Device slots and locks that wait for the batches launched before they were given up.

    ``unlock``: gives back one lock of a node. ``batches``: how many batches may be running while
    the scheduler works on the tree: 0 without overlap scheduling.
    """

    def __init__(self, memory: Memory, unlock: Callable[[Any], object], batches: int):
        self._memory = memory
        self._unlock = unlock
        self.synchronize: Callable[[], None] = memory.synchronize
        # One generation a batch, the oldest first; the last one takes what comes.
        self._slots: deque[list[Any]] = deque([] for _ in range(batches + 1))
        self._locks: deque[list[Any]] = deque([] for _ in range(batches + 1))
        self._generation = -1
        self.tokens = 0

    def add(self, slots: Any) -> None:
        """Free these slots, whole pages, when no launched batch can read them any more."""
        if len(slots):
            self._slots[self._generation].append(self._memory.copy(slots))
            self.tokens += len(slots)

    def add_lock(self, node: Any) -> None:
        """Give back one lock of a node when no launched batch can read the node any more."""
        self._locks[-1].append(node)

    def advance(self) -> None:
        """The results of one more batch are processed: free what only it could read."""
        locks = self._locks.popleft()
        self._locks.append([])
        self._generation = 0  # what only these locks kept goes with them
        for node in locks:
            self._unlock(node)
        self._generation = -1
        slots = self._slots.popleft()
        self._slots.append([])
        if slots:
            together = self._memory.concat(slots)  # one call: each costs a copy of the free list
            self.tokens -= len(together)
            self._memory.free_device(together)

    def flush(self) -> bool:
        """Wait for what was launched, and free everything. False where there was nothing."""
        if not (self.tokens or any(self._locks)):
            return False
        self.synchronize()
        self.flush_idle()
        return True

    def flush_idle(self) -> None:
        """Free everything: no batch is running."""
        for _ in range(len(self._slots)):
            self.advance()

    def slots(self) -> list[Any]:
        return [slots for generation in self._slots for slots in generation]


class HostHolder(Protocol):
    """A node whose host copy can be kept from eviction."""

    def protect_host(self) -> None: ...

    def release_host(self) -> None: ...


class HostFrees:
    """Host slots and host copies that wait for the transfers that may use them.

    ``under_way``: names all transfers that read or write host memory now.
    """

    def __init__(self, memory: Memory, under_way: Callable[[], Iterable[Hashable]]):
        self._memory = memory
        self._under_way = under_way
        self._slots: list[Any] = []
        self._holders: list[HostHolder] = []
        self._waiting: list[tuple[set[Hashable], list[Any], list[HostHolder]]] = []

    def add(self, slots: Any) -> None:
        """Free these slots when the transfers that are under way now have ended."""
        if any(True for _ in self._under_way()):
            self._slots.append(slots)
        else:
            self._memory.free_host(slots)

    def protect(self, holder: HostHolder) -> None:
        """Keep a host copy from eviction until the transfers that are under way now have ended."""
        if any(True for _ in self._under_way()):
            holder.protect_host()
            self._holders.append(holder)

    def check(self) -> None:
        """Free what no transfer can use any more. To be called when transfers were looked at."""
        if self._slots or self._holders:
            self._waiting.append((set(self._under_way()), self._slots, self._holders))
            self._slots, self._holders = [], []
        if not self._waiting:
            return
        now = set(self._under_way())
        still = []
        for transfers, slots, holders in self._waiting:
            transfers &= now
            if transfers:
                still.append((transfers, slots, holders))
                continue
            for holder in holders:
                holder.release_host()
            if slots:
                self._memory.free_host(self._memory.concat(slots))
        self._waiting = still

    def slots(self) -> list[Any]:
        waiting = [slots for _, group, _ in self._waiting for slots in group]
        return waiting + self._slots
