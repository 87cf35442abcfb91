"""Device events and streams for a device without queues."""

from __future__ import annotations

import time
from typing import Any

import torch


class CpuEvent:
    """An event of a device whose work is done when the call returns.

    It is therefore complete as soon as it exists. It keeps the time of
    `record()`, from which SGLang reports how long a load-back took.
    """

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self._recorded_at = 0.0

    def record(self, _stream: object = None) -> None:
        """Remember the time."""
        self._recorded_at = time.perf_counter()

    def elapsed_time(self, end: CpuEvent) -> float:
        """Return the milliseconds from this record to that of `end`."""
        return (end._recorded_at - self._recorded_at) * 1000.0

    def query(self) -> bool:
        """Tell that the work before the event is done: always."""
        return True

    def wait(self, _stream: object = None) -> None:
        """Return at once."""

    def synchronize(self) -> None:
        """Return at once."""


def install() -> None:
    """Give `torch.cpu` events with a clock, which PyTorch's own lack.

    SGLang reaches events through `torch.get_device_module()` alone.
    """
    cpu: Any = torch.cpu
    cpu.Event = CpuEvent
