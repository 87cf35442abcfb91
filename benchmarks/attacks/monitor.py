"""One prober at work on one public prompt, watched over time.

The prompt is public because enough users hold it. The attacker asks for it again and again, in
between for prompts that nobody holds, and keeps all of it out of the cache (``cache_scope``), so
that their own copy does not answer. In selective mode the ratio of users to hits falls with each
probe, until the prompt is private again: from there on hits look like misses.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.separation import Separation

from attacks.membership import Probes
from attacks.scenario import ATTACKER, VICTIMS, Scenario

# By default it takes some 500 to 750 hits while the window still knows the prompt's first users
# (``benchmarks/monitor.py`` measures that without a server): too many for every run.
SOONER = ("--tenant-rdr-threshold", "0.02")

TOKENS = 64
HOT_PROBES, COLD_PROBES = 32, 12  # to a window


@dataclass(frozen=True)
class Window:
    """``hits_so_far``: probes of the prompt up to the window's end."""

    hits_so_far: int
    by_time: Separation
    by_count: Separation


async def watch(scenario: Scenario) -> list[Window]:
    target = scenario.prompts.fresh(TOKENS + 1)
    for victim in VICTIMS[:3]:
        await scenario.client.cached([target], [victim])
    windows = []
    for number in range(1, scenario.effort.windows + 1):
        probes = Probes()
        cold = [scenario.prompts.fresh(TOKENS + 1) for _ in range(COLD_PROBES)]
        for kind, guess in scenario.shuffled([target] * HOT_PROBES, cold):
            probes.add(kind, await scenario.client.ask(guess, ATTACKER, cache_scope="none"))
        windows.append(Window(number * HOT_PROBES, probes.by_time(), probes.by_count()))
        scenario.step()
    return windows
