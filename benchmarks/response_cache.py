"""What does an answer from the response cache cost, and what does it save?

    python benchmarks/response_cache.py [--quick]

Asks one request again and again, in turns, of our cache in memory, in a file and in Redis, of our
proxy and LiteLLM's before a server without a cache, and of that server; then 500 times at once
something new. Writes response_cache.json and .png into benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from report.machine import describe
from report.program import leave, options_of, run
from report.target import Target, all_met, verdicts
from response_cost import others
from response_cost.measure import AT_ONCE, CONNECTIONS, in_turns, stampede
from response_cost.response_figure import draw, table
from serving.server import ISOLATED, UPSTREAM, Mode, Model, running
from tqdm import tqdm

ADMIN_KEY = "sk-benchmark"
KEPT = ("--tenant-response-cache", str(64 << 20))
SETTINGS = ("--served-model-name", "demo", "--log-level", "warning", "--admin-api-key", ADMIN_KEY)
MEMORY, FILE, REDIS = "server, in memory", "server, in a file", "server, in Redis"
PROXY, LITELLM, ENGINE = "our proxy", "LiteLLM's proxy", "engine, no cache"
ENV = {"SGLANG_TENANT_PROCESS_KEY": "ab" * 32}


def main() -> int:
    """Measure, print a table, leave results. Returns the exit code."""
    parser = options_of(__doc__, quick="short turns", strict=True, model=".models/bench")
    parser.add_argument("--only", nargs="+", metavar="PLACE", help="leave out all others")
    options = parser.parse_args()
    os.environ |= ENV
    started, machine = time.monotonic(), describe()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as places:
        urls, left_out = _start(options, Path(folder), places)
        results, stampedes = _measure(urls, options.quick)
    print(table(results, stampedes))
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    judged = _targets(results, stampedes)
    print(verdicts(judged))
    report = {
        "machine": machine,
        "quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "settings": list(SETTINGS),
        "targets": [t.row(target="name", measured="measured", met="met") for t in judged],
        "left_out": left_out,
        "places": results,
        "stampede": stampedes,
    }
    leave("response_cache", options.out, report, partial(draw, results))
    return 0 if all_met(judged) or not options.strict else 1


def _start(
    options: argparse.Namespace, folder: Path, places: contextlib.ExitStack
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the places' URLs, and why some are left out."""
    urls: dict[str, str] = {}
    left_out: dict[str, str] = {}
    model = Model(options.model)

    def server(mode: Mode, *flags: str) -> str:
        return places.enter_context(running(model, mode, (*SETTINGS, *flags)))

    def redis() -> str:
        url = places.enter_context(others.redis(folder))
        return server(ISOLATED, *KEPT, "--tenant-response-cache-redis", url)

    engine = server(UPSTREAM)
    starts = {
        MEMORY: lambda: server(ISOLATED, *KEPT),
        FILE: lambda: server(
            ISOLATED, *KEPT, "--tenant-response-cache-file", str(folder / "kept.sqlite")
        ),
        REDIS: redis,
        PROXY: lambda: places.enter_context(others.proxy(engine, folder)),
        LITELLM: lambda: places.enter_context(others.litellm(engine, folder)),
        ENGINE: lambda: engine,
    }
    for name, start in tqdm(starts.items(), desc="starting", disable=None):
        if options.only and name not in options.only:
            left_out[name] = "not asked for"
            continue
        try:
            urls[name] = start()
        except others.NotThere as problem:
            left_out[name] = str(problem)
    return urls, left_out


def _measure(urls: dict[str, str], quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    rounds, seconds = (1, 1.0) if quick else (4, 2.0)
    with tqdm(total=rounds * len(urls) * len(CONNECTIONS), desc="turns", disable=None) as bar:
        results = in_turns(urls, rounds, seconds, bar.update)
    stampedes = {}
    for name, url in urls.items():
        if name != ENGINE:
            before = _misses(url)
            stampedes[name] = stampede(url)
            if before is not None:
                stampedes[name]["misses"] = (_misses(url) or 0) - before
    return results, stampedes


def _misses(url: str) -> int | None:
    """Return how many requests a place computed, by its own count; None where it has none."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    for path in ("/tenant/response_cache", "/cache/stats"):
        answer = httpx.get(url + path, headers=admin)
        if answer.status_code == httpx.codes.OK:
            told = answer.json()
            return int(told.get("process", told)["misses"])
    return None


def _targets(results: dict[str, Any], stampedes: dict[str, Any]) -> list[Target]:
    found = []
    for name in results:
        if name in (ENGINE, LITELLM):
            continue
        many = results[name]["64"]
        found.append(Target.holds("all answers are one", many["answers"] == 1).of(place=name))
        told = stampedes[name]
        computed = max(told["computations"], told.get("misses", 0))
        title = f"computations for {AT_ONCE} equal requests at once"
        found.append(Target(title, computed, 1).of(place=name))
    return found


if __name__ == "__main__":
    run(main)
