"""Ask the same of all places, in turns, and add up what came."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from response_cost.load import Asked

PATH = "/v1/chat/completions"
AT_ONCE = 500
CONNECTIONS = (1, 64)
_PROGRAM = Path(__file__).with_name("load.py")


def in_turns(
    urls: Mapping[str, str], rounds: int, seconds: float, step: Callable[[], object]
) -> dict[str, dict[str, Any]]:
    """Return figures by place and number of connections."""
    body = _body()
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for url in urls.values():
        _ask(url, body, 1, 0)
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for name, url in urls.items():
                found.setdefault((name, connections), []).append(
                    _ask(url, body, connections, seconds)
                )
                step()
    results: dict[str, dict[str, Any]] = {name: {} for name in urls}
    for (name, connections), loads in found.items():
        results[name][str(connections)] = _figures(loads)
    return results


def stampede(url: str, number: int = AT_ONCE) -> dict[str, Any]:
    """Ask what is new so many times at once; how many computations answered?"""
    load = _ask(url, _body(), number, 0)
    return {
        "requests": number,
        "computations": len(load["ids"]),
        "seconds": load["seconds"],
    }


def _figures(loads: list[dict[str, Any]]) -> dict[str, Any]:
    latencies = np.concatenate([load["latencies"] for load in loads]) * 1e3
    ids = {each for load in loads for each in load["ids"]}
    seconds = sum(load["seconds"] for load in loads)
    return {
        "requests": len(latencies),
        "p50_ms": float(np.quantile(latencies, 0.5)),
        "p99_ms": float(np.quantile(latencies, 0.99)),
        "per_second": len(latencies) / seconds,
        "answers": len(ids),  # distinct ones: 1 where all came from a cache
        "client_busy": max(load["client_busy"] for load in loads),
    }


def _body() -> dict[str, Any]:
    """Return a request that nobody has asked."""
    text = f"{uuid.uuid4()} " + "what a response cache is good for, " * 6
    return {
        "model": "demo",
        "user": "anne",
        "temperature": 0,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": text}],
    }


def _ask(url: str, body: dict[str, Any], connections: int, seconds: float) -> dict[str, Any]:
    asked = Asked(url, PATH, body, {}, connections, seconds)
    done = subprocess.run(
        [sys.executable, str(_PROGRAM)],
        input=json.dumps(asdict(asked)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{url}: {done.stderr[-800:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
