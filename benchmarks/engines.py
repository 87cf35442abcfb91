"""How fast are the engines: upstream, the fork in each mode, Hugging Face's generate?

    python benchmarks/engines.py [--quick] [--rounds N] [--out benchmarks/results]

The same model, prompts and number of tokens, in turns: a conversation, one document for many
users, many users at once. Writes engines.json, .md and .png. Compare times within one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from engine_speed import hf_process
from engine_speed.agreement import agreement
from engine_speed.contenders import SERVERS, SETTINGS, Contender, connected, started
from engine_speed.engine import Engine
from engine_speed.figures import figures, times_faster
from engine_speed.hf_process import HfProcess
from engine_speed.load import LOADS, Extent, Load, make
from engine_speed.rounds import Played, in_turns, play
from engine_speed.speed_figure import draw
from engine_speed.speed_table import as_markdown, as_text
from engine_speed.speed_targets import targets
from report.machine import describe
from report.program import leave, options_of, run
from report.target import all_met, verdicts
from server_process import ServerProcess
from serving.server import Model
from tqdm import tqdm

SEED = 7
ROUNDS, QUICK_ROUNDS = 6, 2
QUICK = Extent(talks=1, turns=3, readers=4, crowd=4).scaled(0.5)


def main(arguments: Sequence[str] | None = None, contenders: Sequence[Contender] = SERVERS) -> int:
    options = _parser().parse_args(arguments)
    extent = QUICK if options.quick else Extent().scaled(options.scale)
    begun, machine = time.monotonic(), describe()
    model = Model(options.model, options.size, stored=True)
    with started(contenders, model, options.threads) as servers:
        measured = asyncio.run(_measure(servers, contenders, model, extent, options))
    judged = targets(measured["workloads"])
    report = {
        "machine": machine,
        "quick": options.quick,
        "seconds": round(time.monotonic() - begun),
        "threads": options.threads,
        "settings": list(SETTINGS),
        "extent": vars(extent),
        "targets": [t.row(target="name", measured="measured", met="met") for t in judged],
        **measured,
    }
    print(f"{as_text(report['workloads'])}\n{verdicts(judged)}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "engines.md").write_text(as_markdown(report["workloads"]))
    leave("engines", options.out, report, partial(draw, report["workloads"]))
    return 0 if all_met(judged) or not options.strict else 1


def _parser() -> argparse.ArgumentParser:
    quick, model = "few requests: does it run at all?", ".models/engines"
    parser = options_of(__doc__, quick=quick, strict=True, model=model)
    parser.add_argument("--size", choices=("tiny", "bench"), default="bench", help="of the model")
    parser.add_argument("--rounds", type=int, help=f"of each engine and workload ({ROUNDS})")
    parser.add_argument("--scale", type=float, default=1.0, help="of texts' lengths")
    parser.add_argument("--threads", type=int, default=1, help="of each model")
    return parser


async def _measure(
    servers: Mapping[str, ServerProcess],
    contenders: Sequence[Contender],
    model: Model,
    extent: Extent,
    options: argparse.Namespace,
) -> dict[str, Any]:
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    async with hf_process.running(model.directory, options.threads) as hf:
        loads = [await make(name, extent, SEED, hf.answer) for name in LOADS]
        async with connected(contenders, servers, hf) as engines:
            workloads = {load.name: await _compare(engines, load, rounds, hf) for load in loads}
        return {"hf": dict(hf.facts), "workloads": workloads}


async def _compare(
    engines: Sequence[Engine], load: Load, rounds: int, hf: HfProcess
) -> dict[str, Any]:
    players = [engine for engine in engines if load.name in engine.loads]
    for engine in players:
        await play(engine, load)  # the first time, memory is asked for that is there later
    with tqdm(total=rounds * len(players), desc=load.name, disable=None) as bar:
        played = await in_turns(players, load, rounds, bar.update)
    found = {name: await _of_engine(load, played, name, hf) for name in played}
    return {
        "requests": len(load.requests),
        "prompt_tokens": load.prompt_tokens,
        "output_tokens": load.output_tokens,
        "rounds": rounds,
        "engines": found,
    }


async def _of_engine(
    load: Load, played: Mapping[str, Sequence[Played]], name: str, hf: HfProcess
) -> dict[str, Any]:
    ours = played[name]
    others = {other: times_faster(ours, theirs) for other, theirs in played.items()}
    return {
        **figures(ours, load),
        "faster_than": others,
        "agreement": await agreement(load, ours, hf.margin),
    }


if __name__ == "__main__":
    run(main)
