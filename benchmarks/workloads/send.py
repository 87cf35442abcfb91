"""A workload sent to a server, at the moments it asks for, and what that cost."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from serving.client import Answer, Client

from workloads.request import Request

Naming = Callable[[Request], dict[str, Any]]


@dataclass(frozen=True)
class Pass:
    """Answers in the order of their requests; ``seconds`` from the first sent to the last done.
    ``started``: a moment of time.perf_counter."""

    answers: list[Answer]
    started: float
    seconds: float

    @property
    def prompt_tokens(self) -> int:
        return sum(answer.prompt_tokens for answer in self.answers)

    @property
    def cached(self) -> int:
        return sum(answer.cached for answer in self.answers)

    def followed_by(self, other: Pass) -> Pass:
        return Pass(self.answers + other.answers, self.started, self.seconds + other.seconds)

    def figures(self) -> dict[str, Any]:
        """``computed_tokens``: of prompts, not found in the cache, so computed and stored anew.
        Times in ms."""
        ttfts = [answer.ttft * 1e3 for answer in self.answers]
        return {
            "requests": len(self.answers),
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached,
            "cached_share": self.cached / self.prompt_tokens,
            "host_tokens": sum(answer.from_host for answer in self.answers),
            "computed_tokens": self.prompt_tokens - self.cached,
            "ttft_mean": statistics.fmean(ttfts),
            "ttft_p50": float(np.percentile(ttfts, 50)),
            "ttft_p95": float(np.percentile(ttfts, 95)),
            "requests_per_second": len(self.answers) / self.seconds,
            "tokens_per_second": self.prompt_tokens / self.seconds,
            "cached_by_request": [a.cached / a.prompt_tokens for a in self.answers],
            "ttft": [round(ttft, 2) for ttft in ttfts],
        }


async def replay(
    client: Client,
    requests: Sequence[Request],
    naming: Naming,
    *,
    pace: float = 1.0,
    step: Callable[[], object] = lambda: None,
) -> Pass:
    """An open loop: nobody waits for others' answers. ``naming``: how a request says whose it
    is. ``pace``: how many times sooner they come than they say; infinity is all at once."""
    started = time.perf_counter()

    async def send(request: Request) -> Answer:
        await asyncio.sleep(max(0.0, started + request.at / pace - time.perf_counter()))
        answer = await client.ask(request.prompt, output=request.output, **naming(request))
        step()
        return answer

    answers = await asyncio.gather(*(send(request) for request in requests))
    return Pass(list(answers), started, time.perf_counter() - started)
