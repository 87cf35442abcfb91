"""A device of which only the time is modelled."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, and for each token in it that is computed."""

    step: float = 0.010
    prefill: float = 0.000_05
    decode: float = 0.000_2

    def of(self, prefill: int, decode: int) -> float:
        return self.step + prefill * self.prefill + decode * self.decode


@dataclass(frozen=True)
class Device:
    """``memory``: tokens; ``chunk``: tokens to a prefill step, None is unlimited.

    ``reserve``: the share of a running request's longest answer that is kept free for it,
    upstream's new token ratio. With less than 1 memory can run out, and requests are retracted.
    """

    memory: int = 20_000
    running: int = 64
    chunk: int | None = 2048
    reserve: float = 0.7
    costs: Costs = field(default_factory=Costs)


# About an A10G (24 GB) with a 7B model in 16 bit, as VTC's paper used it: 10,000 tokens fit
# beside the weights. Prefill: 14 GFLOP a token at half of the card's speed. A decode step reads
# 13.5 GB of weights at 600 GB/s, and its server's own work and the keys and values come on top:
# set so that full load at 256 + 256 tokens is about the 780 to 900 tokens/s that it reports.
A10G = Device(
    memory=10_000,
    running=64,
    chunk=2048,
    reserve=1.0,
    costs=Costs(step=0.024, prefill=0.000_2, decode=0.000_8),
)

# The same card with an 8B model of today, whose keys and values are a quarter as large.
A10G_8B = Device(
    memory=45_000,
    running=128,
    chunk=2048,
    reserve=1.0,
    costs=Costs(step=0.024, prefill=0.000_2, decode=0.000_3),
)
