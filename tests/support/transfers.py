"""Copies between device and host that take their time, on a machine where they take none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang.srt.managers.cache_controller import HiCacheController


class Transfer:
    """One copy that was started. As an event it says whether the copy is done."""

    def __init__(self, copy: Callable[[], None], target: list[int]):
        self._copy = copy
        self.target = target  # slots that hold nothing of use until then
        self.done = False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        if not self.done:
            self._copy()
            self.done = True

    record = wait = synchronize


class Streams:
    """Holds back a controller's copies, as the two streams of a GPU do, until they are let go.

    The copies are the pools' own; only their time is ours. Those of one direction finish in
    the order in which they were started. ``hold_writes``: whether those to the host are, too;
    writing back, the tree waits for each of them.
    """

    def __init__(self, controller: HiCacheController, *, hold_writes: bool = True):
        self._controller = controller
        self.writes: list[Transfer] = []
        self.loads: list[Transfer] = []
        host: Any = controller.mem_pool_host
        backup, load = host.backup_from_device_all_layer, host.load_to_device_per_layer

        def hold_backup(pool: Any, host_slots: Any, device_slots: Any, backend: str) -> None:
            # The controller may reuse its tensors: a copy in flight has its own.
            taken = host_slots.clone(), device_slots.clone()
            self.writes.append(Transfer(lambda: backup(pool, *taken, backend), taken[0].tolist()))

        def hold_load(
            pool: Any, host_slots: Any, device_slots: Any, layer: int, backend: str
        ) -> None:
            taken = host_slots.clone(), device_slots.clone()
            self.loads.append(
                Transfer(lambda: load(pool, *taken, layer, backend), taken[1].tolist())
            )

        if hold_writes:
            host.backup_from_device_all_layer = hold_backup
        host.load_to_device_per_layer = hold_load

    def announce(self) -> None:
        """Let the controller's acknowledgements say when the copies are really done."""
        for queue, transfers in (
            (self._controller.ack_write_queue, self.writes),
            (self._controller.ack_load_queue, self.loads),
        ):
            known = {id(ack.finish_event) for ack in queue}
            new = [transfer for transfer in transfers if id(transfer) not in known]
            # The queue's last entries are those of the last copies.
            for place in range(len(queue) - 1, -1, -1):
                if isinstance(queue[place].finish_event, Transfer):
                    break
                queue[place] = queue[place]._replace(finish_event=new.pop())

    def finish_writes(self, number: int) -> None:
        for transfer in self.writes[:number]:
            transfer.synchronize()
        del self.writes[:number]

    def finish_loads(self, number: int) -> None:
        for transfer in self.loads[:number]:
            transfer.synchronize()
        del self.loads[:number]

    def unfinished(self) -> tuple[set[int], set[int]]:
        """Device slots, and host slots, whose bytes have not arrived."""
        return (
            {slot for transfer in self.loads for slot in transfer.target},
            {slot for transfer in self.writes for slot in transfer.target},
        )
