"""Tell the schedulers the time: they may not look at a clock, lest ranks disagree."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sglang.srt.tenancy.control.messages import Tick

if TYPE_CHECKING:
    from sglang.srt.tenancy.control.client import ControlClient
    from sglang.srt.tenancy.flags import TenantOptions

_LONGEST_PERIOD = 5  # seconds

_task: asyncio.Task[None] | None = None  # the event loop would not keep it


def start(client: ControlClient, options: TenantOptions) -> None:
    """Send ticks from this process from now on, if anything waits for them."""
    global _task
    if options.tenant_idle_ttl:
        _task = asyncio.get_running_loop().create_task(_tick(client, period(options)))


def period(options: TenantOptions) -> int:
    """Return the seconds between two ticks: a quarter of the time to live, within bounds."""
    return min(_LONGEST_PERIOD, max(1, int((options.tenant_idle_ttl or 0) / 4)))


async def _tick(client: ControlClient, seconds: int) -> None:
    # All processes of a machine have one monotonic clock. Rounded, their ticks are the same, and
    # of each only the first counts.
    while True:
        client.tell(Tick(int(time.monotonic()) // seconds * seconds))
        await asyncio.sleep(seconds)
