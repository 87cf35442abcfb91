"""What the guarantee costs: of the tokens that one cache for all would find, how many are found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import accumulate, count
from typing import Any, NamedTuple

from colluding.cells import COUNT, SETTINGS
from colluding.server import Server
from sglang.srt.tenancy.cache.core.options import PolicyOptions

CROWDS = (10, 20, 30, 100, 1_000)
USERS = 1_000  # in a window, of all prefixes together; half of them are others in the next
PREFIX, TAIL = 400, 40  # tokens
WORDS = 200  # with which users' own part begins, some more often than others (Zipf)
WINDOW = 4_096  # requests: some four of each user
WINDOWS = 3  # the first begins with an empty cache


class Ask(NamedTuple):
    user: str
    prompt: list[int]


def traffic(crowd: int, windows: int, seed: int = 7) -> Iterator[Ask]:
    """``crowd`` users of each prefix in a window. Half of them stay for the next one."""
    rng = random.Random(seed)
    fresh = count(1_000_000)
    words = list(accumulate(1 / rank for rank in range(1, WORDS + 1)))
    for request in range(windows * WINDOW):
        which, seat = rng.randrange(max(1, USERS // crowd)), rng.randrange(crowd)
        # Each user stays for two windows: half of them come with every one.
        came = (request // WINDOW + seat) // 2
        (word,) = rng.choices(range(WORDS), cum_weights=words)
        shared = range(which * PREFIX, (which + 1) * PREFIX)
        prompt = [*shared, 500_000 + word, *(next(fresh) for _ in range(TAIL - 1))]
        yield Ask(f"user-{which}-{seat}-{came}", prompt)


def policies() -> dict[str, PolicyOptions]:
    every = {"upstream": PolicyOptions(mode="shared"), "salt": PolicyOptions(mode="isolated")}
    every |= {one.name: one.options for one in (COUNT, *SETTINGS)}
    return {name: replace(one, dp_window=WINDOW) for name, one in every.items()}


def measure(
    crowds: Sequence[int], windows: int, step: Callable[[], object], workers: int = 2
) -> list[dict[str, Any]]:
    """For each crowd and policy: what part of the tokens that upstream finds, and what is held."""
    wanted = [(crowd, name) for crowd in crowds for name in policies()]
    served = {}
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(_serve, *one, windows): one for one in wanted}
        for done in as_completed(running):
            served[running[done]] = done.result()
            step()
    rows = []
    for crowd, name in wanted:
        found, held, promotions = served[crowd, name]
        kept = [one / all_ for one, all_ in zip(found, served[crowd, "upstream"][0], strict=True)]
        rows.append(
            {
                "crowd": crowd,
                "policy": name,
                "from_empty": kept[0],
                "warm": kept[-1],
                "windows": kept,
                "held": held,
                "promotions": promotions,
            }
        )
    return rows


def _serve(crowd: int, policy: str, windows: int) -> tuple[list[int], int, int]:
    """Returns the tokens found in each window, and at the end those held and what was promoted."""
    server = Server(policies()[policy], b"crowds")
    found = [0] * windows
    for number, ask in enumerate(traffic(crowd, windows)):
        found[number // WINDOW] += server.ask(ask.user, ask.prompt)
    return found, server.memory.used, server.core.counts.get("promotions", 0)
