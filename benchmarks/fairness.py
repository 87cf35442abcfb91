"""How fairly does a server divide itself between its users? Live, and on a modelled device.

    python benchmarks/fairness.py [--quick] [--policies fcfs vtc ...] [--scenarios overload ...]
    python benchmarks/fairness.py --url URL --label NAME [--keys FILE]

Without --url it starts a server for each policy, one after another, sends each the same
requests, and replays larger scenarios on a modelled device. With --url it measures any
OpenAI-compatible server that runs, and adds it to the live results under its label.
Writes fairness.json, fairness.md, fairness.png and a picture of each scenario.
docs/fairness.md says how to read them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fair_service import live
from fair_service.endpoint import Endpoint, Speech
from fair_service.fairness_table import as_markdown
from fair_service.fairness_targets import rows, targets
from fair_service.policies import POLICIES, SMALL_SERVER, serving, weights_of
from fair_service.record import Scale, Scenario
from fair_service.replay import replay_all, steps_of
from fair_service.scenario_figures import draw_all
from fair_service.scenarios import SCENARIOS
from report.machine import describe
from report.program import options_of, run
from report.results import read, write_compact
from report.target import all_met, verdicts
from serving.server import Model
from tqdm import tqdm

SECONDS, QUICK_SECONDS = 6.0, 2.0
QUICK_SCENARIOS = ("overload", "weights")


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.url and not options.label:
        parser.error("--url: give it a --label")
    if options.quick:
        options.scenarios = options.scenarios or list(QUICK_SCENARIOS)
        options.seconds = options.seconds or QUICK_SECONDS
    options.scenarios = options.scenarios or list(SCENARIOS)
    options.seconds = options.seconds or SECONDS
    report = _measured(options)
    judged = {
        where: [target.of(where=where) for target in targets(report[where]["scenarios"])]
        for where in ("replay", "live")
        if where in report
    }
    report["targets"] = [row for found in judged.values() for row in rows(found)]
    write_compact(report, options.out / "fairness.json")
    (options.out / "fairness.md").write_text(as_markdown(report))
    draw_all(report, options.out)
    print(f"written to {options.out}/fairness.json, .md, .png and fairness/")
    missed = [target for found in judged.values() for target in found if not target.met]
    print(verdicts(missed) if missed else "no target was missed")
    # Seconds of a small machine are noisy: where there is a replay, it alone decides.
    return 0 if all_met(next(iter(judged.values()), [])) or not options.strict else 1


def _parser() -> argparse.ArgumentParser:
    quick = "two short scenarios, live only"
    parser = options_of(__doc__, quick=quick, strict=True, model=".models/bench")
    parser.add_argument("--url", help="measure this server instead of starting our own")
    parser.add_argument("--label", help="its name in the results")
    parser.add_argument("--keys", type=Path, help="its API keys: user and key a line, * others")
    parser.add_argument("--size", choices=("bench", "tiny"), default="bench")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--scenarios", nargs="+", choices=list(SCENARIOS), metavar="SCENARIO")
    parser.add_argument("--seconds", type=float, help=f"of each live scenario ({SECONDS:.0f})")
    parser.add_argument("--capacity", type=float, help="requests per second; else it is measured")
    parser.add_argument(
        "--prompt", type=int, default=SMALL_SERVER.prompt, help="tokens of a usual request"
    )
    parser.add_argument(
        "--answer", type=int, default=SMALL_SERVER.answer, help="tokens it produces"
    )
    parser.add_argument(
        "--no-ignore-eos",
        action="store_true",
        help="leave out this field, which SGLang and vLLM know; answers may then be shorter",
    )
    parser.add_argument("--live-only", action="store_true")
    parser.add_argument("--replay-only", action="store_true")
    return parser


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """What is in the file stays, but for what is measured anew."""
    report = read(options.out / "fairness.json") if options.url else {}
    report |= {"machine": describe(), "quick": options.quick} if not options.url else {}
    if not options.replay_only:
        started = time.monotonic()
        if options.url:
            asyncio.run(_measure_url(options, report))
        else:
            report["live"] = _measure_policies(options)
        report["live"]["seconds"] = round(time.monotonic() - started)
    if not (options.live_only or options.quick or options.url):
        started = time.monotonic()
        steps = steps_of(options.policies, options.scenarios)
        with tqdm(total=steps, desc="replay", disable=None) as bar:
            report["replay"] = replay_all(
                options.policies, options.scenarios, lambda what: _next(bar, what)
            )
        report["replay"]["seconds"] = round(time.monotonic() - started)
    return report


def _next(bar: Any, what: str) -> None:
    bar.set_description(f"replay: {what}")
    bar.update()


def _measure_policies(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    alone: dict[str, live.Alone] = {}
    model = Model(options.model, options.size)
    for policy in options.policies:
        tqdm.write(f"starting a server: {policy}")
        with serving(model, policy, _weights(options.scenarios)) as url:
            asyncio.run(_measure(url, policy, options, found, alone, SMALL_SERVER.memory))
    return {**found, "settings": list(SMALL_SERVER.settings), "dlpm_quantum": SMALL_SERVER.quantum}


def _weights(names: Sequence[str]) -> dict[str, float]:
    small = Scale(1.0, 1.0, 8, 1)
    return weights_of(SCENARIOS[name](small, live.SEED) for name in names)


async def _measure_url(options: argparse.Namespace, report: dict[str, Any]) -> None:
    found = report.setdefault("live", {})
    await _measure(options.url, options.label, options, found, {}, None)


async def _measure(
    url: str,
    label: str,
    options: argparse.Namespace,
    found: dict[str, Any],
    alone: dict[str, live.Alone],
    memory: int | None,
) -> None:
    """Enter one server's figures into ``found``. The first one's capacity counts for all, and
    so do its victims who are ``alone``: no policy matters to them."""
    speech = Speech(not options.no_ignore_eos, _keys(options.keys))
    async with Endpoint(url, speech) as endpoint:
        scale = await _scale(endpoint, options, found)
        chosen = [SCENARIOS[name](scale, live.SEED) for name in options.scenarios]
        total = sum(len(scenario.asks) for scenario in chosen)
        alone.update(alone or await live.alone(endpoint, chosen, lambda done: None))
        with tqdm(total=total, desc=label, unit="request", disable=None) as bar:
            for scenario in chosen:
                bar.set_description(f"{label}: {scenario.name}")
                before = alone.get(scenario.name)
                figures = await live.run(
                    endpoint, scenario, scale.seconds, before, memory, bar.update
                )
                _enter(found, scenario, label, figures)


async def _scale(endpoint: Endpoint, options: argparse.Namespace, found: dict[str, Any]) -> Scale:
    """Results that are put beside each other must come from the same requests."""
    if "scale" in found and not options.capacity:
        return Scale(**found["scale"])
    scale = Scale(options.seconds, 1.0, options.prompt, options.answer)
    capacity = options.capacity or await live.capacity_of(endpoint, scale)
    found["scale"] = {**vars(scale), "capacity": round(capacity, 2)}
    tqdm.write(f"capacity: {capacity:.1f} usual requests per second")
    return Scale(**found["scale"])


def _enter(found: dict[str, Any], scenario: Scenario, label: str, figures: Any) -> None:
    entry = found.setdefault("scenarios", {}).setdefault(scenario.name, scenario.described())
    entry.setdefault("policies", {})[label] = figures


def _keys(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    pairs = [line.split() for line in path.read_text().splitlines() if line.strip()]
    return {pair[0]: pair[1] for pair in pairs}


if __name__ == "__main__":
    run(main)
