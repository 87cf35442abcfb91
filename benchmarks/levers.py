"""What do settings do to the time of answers? A server with each, against one without it.

    python benchmarks/levers.py [--quick] [--levers NAME ...] [--out benchmarks/results]

Both answer the same requests in turns, from an empty cache. Writes levers.json, .md and .png.
The settings: docs/levers.md.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engine_speed.agreement import agreement
from engine_speed.contenders import ADMIN_KEY, SETTINGS, started
from engine_speed.engine import ServerEngine
from engine_speed.figures import figures, times_faster, times_sooner
from engine_speed.lever import BASE, CHANGED, LEVERS, Lever
from engine_speed.lever_report import HEAD, as_markdown, cells, draw
from engine_speed.load import Extent, Load, make
from engine_speed.rounds import in_turns, play
from report.machine import describe
from report.program import leave, options_of, run
from report.table import aligned
from server_process import ServerProcess
from serving.client import Client
from serving.server import Model
from tqdm import tqdm

SEED = 7
ROUNDS, QUICK_ROUNDS = 5, 2
QUICK = Extent(talks=2, turns=3, readers=4, crowd=4).scaled(0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    chosen = [lever for lever in LEVERS if lever.name in (options.levers or (lever.name,))]
    extent = QUICK if options.quick else Extent()
    model, machine = Model(options.model, options.size, stored=True), describe()
    rows: list[dict[str, Any]] = []
    for lever in tqdm(chosen, desc="levers", disable=None):
        with started(lever.contenders, model, options.threads) as servers:
            rows += asyncio.run(_measure(lever, servers, extent, options))
    print(aligned(HEAD, cells(rows)))
    report = {
        "machine": machine,
        "quick": options.quick,
        "threads": options.threads,
        "settings": list(SETTINGS),
        "extent": vars(extent),
        "levers": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "levers.md").write_text(as_markdown(rows))
    leave("levers", options.out, report, partial(draw, rows))


def _parser() -> argparse.ArgumentParser:
    quick, model = "few requests: does it run at all?", ".models/engines"
    names = [lever.name for lever in LEVERS]
    parser = options_of(__doc__, quick=quick, model=model)
    parser.add_argument("--size", choices=("tiny", "bench"), default="bench", help="of the model")
    parser.add_argument("--levers", nargs="+", choices=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, help=f"of each server and workload ({ROUNDS})")
    parser.add_argument("--threads", type=int, default=1, help="of each model")
    return parser


async def _measure(
    lever: Lever,
    servers: Mapping[str, ServerProcess],
    extent: Extent,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    base, changed = servers[BASE], servers[CHANGED]
    async with Client(base.url, ADMIN_KEY) as one, Client(changed.url, ADMIN_KEY) as other:

        async def answer(prompt: Sequence[int], output: int) -> Sequence[int]:
            return (await one.ask(prompt, "reference", output=output)).output

        named = "--enable-tenant-cache" in lever.base
        found = []
        for name in lever.loads:
            load = await make(name, extent, SEED, answer)
            prepare = lever.prepare and partial(lever.prepare, other, load)
            engines = (
                ServerEngine(BASE, one, base, named=named),
                ServerEngine(CHANGED, other, changed, named=named, prepare=prepare),
            )
            found.append(await _compare(lever, engines, load, rounds))
        return found


async def _compare(
    lever: Lever, engines: Sequence[ServerEngine], load: Load, rounds: int
) -> dict[str, Any]:
    for engine in engines:
        await play(engine, load)
    played = await in_turns(engines, load, rounds)
    return {
        "lever": lever.name,
        "setting": lever.setting,
        "workload": load.name,
        "rounds": rounds,
        "engines": {name: figures(each, load) for name, each in played.items()},
        "faster": times_faster(played[CHANGED], played[BASE]),
        "first_token": times_sooner(played[BASE], played[CHANGED]),
        "agreement": await agreement(load, played[CHANGED]),
    }


if __name__ == "__main__":
    run(main)
