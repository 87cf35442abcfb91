"""What does it cost to keep users apart, and how much of it does selective sharing give back?

    python benchmarks/sharing.py [--quick] [--trace mooncake:FILE] [--trace sharegpt:FILE]

Sends the same requests, from users who come and go, to upstream, to upstream with a salt per
user, and to isolated and selective mode, and writes sharing.json and sharing.png into
benchmarks/results. Compare times within one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from report.machine import describe
from report.program import leave, options_of, run
from report.target import all_met, verdicts
from serving.client import Client
from serving.server import Model, running
from serving.together import together
from sharing_cost.methods import METHODS
from sharing_cost.passes import compare
from sharing_cost.sharing_figure import draw
from sharing_cost.sharing_targets import rows, summary, targets
from tqdm import tqdm
from workloads.made_up import SHARING, WORKLOADS, make
from workloads.request import PASSES, Request, Size
from workloads.traces import TraceError, read

SEED = 11
ADMIN_KEY = "sk-benchmark"
SETTINGS = (
    *("--max-total-tokens", "24576", "--enable-hierarchical-cache", "--hicache-ratio", "2"),
    *("--admin-api-key", ADMIN_KEY, "--log-level", "warning"),
)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    size = Size(options.requests, options.users, options.rate, options.zipf, options.scale)
    names = options.workloads or list(WORKLOADS)
    if options.quick:
        size = Size(requests=16, users=40, rate=8.0, scale=0.4)
        names = options.workloads or ["system prompts", "private chat"]
    try:
        load = _load(names, options.trace, size)
    except (OSError, TraceError) as problem:
        parser.error(str(problem))
    started, machine = time.monotonic(), describe()
    results = _measure(load, options)
    judged = targets(results, SHARING)
    print(verdicts(judged))
    report = {
        "machine": machine,
        "quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "settings": list(SETTINGS),
        "size": vars(size),
        "targets": rows(judged),
        "workloads": results,
    }
    leave("sharing", options.out, report, partial(draw, results))
    return 0 if all_met(judged) or not options.strict else 1


def _parser() -> argparse.ArgumentParser:
    quick, model = "few requests: does it run at all?", ".models/bench"
    parser = options_of(__doc__, quick=quick, strict=True, model=model)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, metavar="WORKLOAD")
    parser.add_argument("--trace", action="append", default=[], metavar="KIND:FILE")
    parser.add_argument("--requests", type=int, default=Size.requests, help="of each pass")
    parser.add_argument("--users", type=int, default=Size.users)
    parser.add_argument("--rate", type=float, default=Size.rate, help="requests per second")
    parser.add_argument("--zipf", type=float, default=Size.zipf, help="exponent of users' law")
    parser.add_argument("--scale", type=float, default=Size.scale, help="of prompts' lengths")
    parser.add_argument("--threads", type=int, default=1, help="of each model")
    return parser


def _load(names: list[str], traces: list[str], size: Size) -> dict[str, list[Request]]:
    """Workload -> requests. Raises TraceError, and OSError where a file cannot be read."""
    load = {name: make(name, size, SEED) for name in names}
    for trace in traces:
        kind, _, path = trace.partition(":")
        load[kind] = read(kind, Path(path), size, SEED)
    return load


def _measure(load: dict[str, list[Request]], options: argparse.Namespace) -> dict[str, Any]:
    modes = {method.mode.name: method.mode for method in METHODS}
    model = Model(options.model)
    servers = [running(model, mode, SETTINGS, threads=options.threads) for mode in modes.values()]
    with together(servers) as urls:
        return asyncio.run(_replay_all(dict(zip(modes, urls, strict=True)), load))


async def _replay_all(urls: dict[str, str], load: dict[str, list[Request]]) -> dict[str, Any]:
    results = {}
    steps = len(METHODS) * sum(len(each) // PASSES * PASSES for each in load.values())
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(Client(url, ADMIN_KEY))
            for name, url in urls.items()
        }
        bar = stack.enter_context(tqdm(total=steps, unit="request", disable=None))
        await _warm_up(clients)
        for name, requests in load.items():
            bar.set_description(name)
            results[name] = await compare(clients, requests, bar.update)
            tqdm.write(f"{name}\n{summary(results[name])}\n")
    return results


async def _warm_up(clients: dict[str, Client]) -> None:
    """The first long prompts pay for memory that later ones find ready."""
    for client in clients.values():
        for tokens in (64, 1_024) * 2:
            await client.ask([tokens] * tokens, "warm-up", output=4)


if __name__ == "__main__":
    run(main)
