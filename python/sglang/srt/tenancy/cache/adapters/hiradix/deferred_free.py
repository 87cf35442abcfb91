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

import torch


class DeviceFrees:
    """Device slots and locks that wait for the batches launched before they were given up.

    ``free``: gives slots, whole pages in their order, back to the allocator. ``unlock``: gives back
    one lock of a node. ``batches``: how many batches may be running while the scheduler works on
    the tree: 0 without overlap scheduling. ``synchronize``: waits for all that was launched.
    """

    def __init__(
        self,
        free: Callable[[torch.Tensor], None],
        unlock: Callable[[Any], object],
        batches: int,
        synchronize: Callable[[], None],
    ):
        self._free = free
        self._unlock = unlock
        self.synchronize = synchronize
        # One generation a batch, the oldest first; the last one takes what comes.
        self._slots: deque[list[torch.Tensor]] = deque([] for _ in range(batches + 1))
        self._locks: deque[list[Any]] = deque([] for _ in range(batches + 1))
        self._generation = -1
        self.tokens = 0

    def add(self, slots: torch.Tensor) -> None:
        """Free these slots, whole pages, when no launched batch can read them any more."""
        if len(slots):
            self._slots[self._generation].append(slots.to(torch.int64, copy=True))
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
            together = torch.cat(slots)  # one call: each costs a copy of the free list
            self.tokens -= len(together)
            self._free(together)

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

    def slots(self) -> list[torch.Tensor]:
        return [slots for generation in self._slots for slots in generation]


class HostHolder(Protocol):
    """A node whose host copy can be kept from eviction."""

    def protect_host(self) -> None: ...

    def release_host(self) -> None: ...


class HostFrees:
    """Host slots and host copies that wait for the transfers that may use them.

    ``free``: gives host slots back to the pool. ``under_way``: names of all transfers that read or
    write host memory now.
    """

    def __init__(
        self, free: Callable[[torch.Tensor], None], under_way: Callable[[], Iterable[Hashable]]
    ):
        self._free = free
        self._under_way = under_way
        self._slots: list[torch.Tensor] = []
        self._holders: list[HostHolder] = []
        self._waiting: list[tuple[set[Hashable], list[torch.Tensor], list[HostHolder]]] = []

    def add(self, slots: torch.Tensor) -> None:
        """Free these slots when the transfers that are under way now have ended."""
        if any(True for _ in self._under_way()):
            self._slots.append(slots)
        else:
            self._free(slots)

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
                self._free(torch.cat(slots))
        self._waiting = still

    def slots(self) -> list[torch.Tensor]:
        waiting = [slots for _, group, _ in self._waiting for slots in group]
        return waiting + self._slots


def install() -> None:
    """Have each scheduler say when a batch is processed, and when none is running.

    Through upstream's hook registry, for every kind of tree; only ours has frees to wait with.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    scheduler, source = "sglang.srt.managers.scheduler.Scheduler.", HookSource("tenancy", "sglang")
    HookRegistry.register(
        scheduler + "process_batch_result", _processed, HookType.AFTER, source=source
    )
    HookRegistry.register(scheduler + "on_idle", _idle, HookType.BEFORE, source=source)


def _processed(_: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    frees = getattr(scheduler.tree_cache, "device_frees", None)
    if frees is not None:
        frees.advance()


def _idle(scheduler: Any) -> None:
    frees = getattr(scheduler.tree_cache, "device_frees", None)
    if frees is not None:
        frees.flush_idle()
