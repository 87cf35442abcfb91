"""What being read costs a request: pairs on one server, of which the detector reads one.

``cache_scope: "private"`` keeps a prompt from the detector and changes nothing else before its
first token. Two servers, one with a detector and one without, differ by more than what is to be
measured here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import string
from collections.abc import Sequence
from typing import Any

import psutil
from labelled_texts.harmless import EN_FILL
from serving.client import Client
from tqdm import tqdm

PROMPT = 2_000  # characters; with the demo model as many tokens
UNREAD, READ = "not read", "read"
FIELDS: dict[str, dict[str, Any]] = {UNREAD: {"cache_scope": "private"}, READ: {}}
WARM_UP = 10
BLOCK = 20  # requests between two looks at the processor's clock, which ticks rarely


async def first_tokens(url: str, key: str, pairs: int, at_once: int) -> dict[str, Any]:
    """Milliseconds to the first token, by whether the detector reads the prompt."""
    chance = random.Random(at_once)
    times: dict[str, list[float]] = {UNREAD: [], READ: []}
    async with Client(url, key) as client:
        for number in tqdm(range(-WARM_UP, pairs), desc=f"{at_once} at once", disable=None):
            for how in (UNREAD, READ) if number % 2 else (READ, UNREAD):
                seen = await _ask(client, chance, how, at_once)
                if number >= 0:  # the first ones warm up
                    times[how] += seen
    differences = [b - a for a, b in zip(times[UNREAD], times[READ], strict=True)]
    return {
        "at_once": at_once,
        "pairs": len(differences),
        "median_ms": {how: round(statistics.median(t), 3) for how, t in times.items()},
        "p90_ms": {how: round(statistics.quantiles(t, n=10)[8], 3) for how, t in times.items()},
        "median_of_differences_ms": round(statistics.median(differences), 3),
        "interval_95_ms": interval(differences),
    }


async def processor(url: str, key: str, blocks: int) -> dict[str, Any]:
    """Milliseconds that a request keeps a processor busy: other load does not add to them."""
    chance = random.Random(0)
    spent: dict[str, dict[str, float]] = {how: {"http": 0.0, "detector": 0.0} for how in FIELDS}
    async with Client(url, key) as client:
        detector = await client.detector()
        assert detector is not None, "this server runs with a detector"
        worker = psutil.Process(detector["pid"])
        server = worker.parent()
        assert server is not None, "the detector's process is the server's"
        for number in tqdm(range(blocks), desc="processor", disable=None):
            for how in (UNREAD, READ) if number % 2 else (READ, UNREAD):
                before = _busy(server), _busy(worker)
                for _ in range(BLOCK):
                    await _ask(client, chance, how, 1)
                await client.scan_results_are_in()
                spent[how]["http"] += _busy(server) - before[0]
                spent[how]["detector"] += _busy(worker) - before[1]
    each = 1_000 / (blocks * BLOCK)
    return {how: {k: round(v * each, 3) for k, v in of.items()} for how, of in spent.items()}


async def _ask(client: Client, chance: random.Random, how: str, at_once: int) -> list[float]:
    fields = FIELDS[how]
    prompts = [_prompt(chance) for _ in range(at_once)]
    answers = await asyncio.gather(
        *(client.ask(prompt, "bench", output=2, **fields) for prompt in prompts)
    )
    return [answer.ttft * 1_000 for answer in answers]


def _prompt(chance: random.Random) -> str:
    text = "".join(chance.choices(string.ascii_lowercase, k=20))  # nothing of it is cached
    while len(text) < PROMPT:
        text += " " + chance.choice(EN_FILL)
    return text[:PROMPT]


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def interval(values: Sequence[float]) -> list[float]:
    """Of the median, by resampling; 95 %."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(2000))
    return [round(medians[50], 3), round(medians[1949], 3)]
