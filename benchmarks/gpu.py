"""Does it work on this GPU, and how does it compare with what others have published?

    python benchmarks/gpu.py [--quick] [--limit-minutes N] [--parts ...] [--device cpu]

Models of published shapes with random weights: what sharing costs, attacks, fairness, and evictions
at 100,000 leaves. Each measurement (a cell: model, mode, seed) is written as it ends, and what is
there already is not measured again: a GPU that is lent for minutes is enough, many times. Writes
gpu.json, gpu.md and gpu.png into a folder named by the GPU. docs/gpu.md says how to read them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_cells.cells import PARTS, Cell, Store, slug
from gpu_cells.gpu_figure import draw
from gpu_cells.gpu_table import as_markdown
from gpu_cells.measure import Measurer
from gpu_cells.models import Dummy, fitting, small
from gpu_cells.plan import PLANS, Plan, cells, settings_of
from gpu_cells.summary import summary
from report.machine import describe
from report.program import RESULTS, options_of, run
from report.results import write

CPU_RESULTS = Path("benchmarks/out/gpu")  # not in the repository
FACTS = ("gpu", "cores", "architecture", "torch", "sglang")
FIRST_GUESS = 90.0  # seconds of a cell, where none of its part was measured


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if problem := _problem(options):
        parser.error(problem)
    plan = PLANS[options.device, options.quick]
    name = torch.cuda.get_device_name() if options.device == "cuda" else "a CPU"
    models, left_out = _models(options)
    models = {
        n: m for n, m in models.items() if n in (options.models or list(models)[: plan.models])
    }
    folder = options.out / (slug(name) + ("-quick" if options.quick else ""))
    facts = describe(*FACTS)
    version = facts["gpu"], facts["sglang"]
    store = Store(folder / "cells", lambda cell: [settings_of(plan, cell), *version])
    wanted = list(cells(plan, list(models), options.parts))
    for line in left_out:
        print(line)
    _measure(wanted, plan, models, store, 60 * options.limit_minutes)
    report = _report(wanted, store, plan, name) | {"machine": facts, "left_out": left_out}
    text = as_markdown(report)
    write(report, folder / "gpu.json")
    (folder / "gpu.md").write_text(text)
    pictured = draw(report, folder / "gpu.png")
    print(f"{text}\nwritten to {folder}: gpu.md, gpu.json{', gpu.png' if pictured else ''}")
    if rest := report["cells"] - report["done"]:
        print(f"{rest} cells are not measured: the same command goes on with them")
    return 1 if report["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = options_of(__doc__, quick="one model, one seed, few requests: does it run at all?")
    parser.set_defaults(out=None)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="those that fit, by default")
    parser.add_argument("--directory", type=Path, default=Path(".models"), help="of the models")
    parser.add_argument(
        "--limit-minutes",
        type=float,
        default=float("inf"),
        metavar="N",
        help="start no measurement that would end later; the next call goes on",
    )
    return parser


def _problem(options: argparse.Namespace) -> str:
    """Why it cannot begin; nothing where it can. Chooses where results go."""
    on_cpu = options.device == "cpu"
    options.out = options.out or (CPU_RESULTS if on_cpu else RESULTS / "gpu")
    if on_cpu and options.out.resolve().is_relative_to(RESULTS.resolve()):
        return f"--out {options.out}: figures of a CPU do not belong there; leave it out"
    if not on_cpu and not torch.cuda.is_available():
        return (
            f"--device cuda: PyTorch {torch.__version__} finds no CUDA device here; "
            "--device cpu runs a small version, whose figures say nothing of a GPU"
        )
    return ""


def _models(options: argparse.Namespace) -> tuple[dict[str, Dummy], list[str]]:
    """By name, and a sentence for each that does not fit."""
    if options.device == "cpu":
        return small(options.directory), []
    return fitting(torch.cuda.mem_get_info()[0], options.directory)


def _measure(
    wanted: Sequence[Cell],
    plan: Plan,
    models: Mapping[str, Dummy],
    store: Store,
    limit: float,
) -> None:
    """Those that are not there yet, as long as the time is not up."""
    started, measurer = time.monotonic(), Measurer(plan, models, store)
    try:
        for number, cell in enumerate(wanted, 1):
            if store.figures(cell) is not None:
                continue
            if time.monotonic() - started + _guess(cell, wanted, store) > limit:
                print(f"{cell.name} would end too late")
                return
            seconds, error = _measure_one(cell, measurer, store)
            left = sum(_guess(c, wanted, store) for c in wanted if store.figures(c) is None)
            verdict = f"FAILED: {error.splitlines()[0]}" if error else f"{seconds:.0f} s"
            print(
                f"[{number}/{len(wanted)}] {cell.name}: {verdict}; about {left / 60:.0f} min left",
                flush=True,
            )
    finally:
        measurer.close()


def _measure_one(cell: Cell, measurer: Measurer, store: Store) -> tuple[float, str]:
    """Returns the seconds it took, and why it failed."""
    began = time.monotonic()
    try:
        figures, error = measurer.figures(cell), ""
    except Exception as problem:  # noqa: BLE001 - whatever it is, the others are still of use
        figures, error = {}, f"{type(problem).__name__}: {problem}"
        measurer.close()
    seconds = time.monotonic() - began
    store.keep(cell, seconds, figures, error)
    return seconds, error


def _guess(cell: Cell, known: Iterable[Cell], store: Store) -> float:
    """Seconds: the longest of its part so far."""
    times = (store.seconds(each) for each in known if each.part == cell.part)
    return max(times, default=0.0) or FIRST_GUESS


def _report(wanted: Sequence[Cell], store: Store, plan: Plan, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "device": plan.device,
        "cells": len(wanted),
        "done": sum(store.figures(cell) is not None for cell in wanted),
        "failed": {cell.name: why for cell in wanted if (why := store.error(cell))},
        "plan": asdict(plan),
        "summary": summary(store, wanted),
    }


if __name__ == "__main__":
    run(main)
