"""What can an attacker with nothing but accounts learn of other users' prompts?

    python benchmarks/side_channel.py [--quick] [--modes upstream selective ...] [--url URL]

Starts a server in each mode on the same settings, lets victims talk and an attacker probe, and
writes side_channel.json and two pictures into benchmarks/results; then one with a response cache
(--modes responses: that alone), of which side_channel_responses.json and .png tell. With --url a
running server is attacked instead; --modes then says (once) which mode it is in, that is, what to
expect of it.
docs/threat-model.md defines the measures.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from attacks import cached_responses, response_figure, response_targets
from attacks.attack_figures import draw, draw_times
from attacks.attack_targets import rows, summary, targets
from attacks.campaign import attack
from attacks.forgery import write_config
from attacks.monitor import SOONER
from attacks.scenario import FULL, QUICK, Effort, Scenario
from report.machine import describe
from report.program import leave, options_of, run
from report.target import Target, all_met, verdicts
from serving.client import Client
from serving.completions import CompletionsClient
from serving.prompts import Prompts
from serving.server import ISOLATED, MODES, SELECTIVE, UPSTREAM, Mode, Model, running
from tqdm import tqdm

SEED = 7
RESPONSES = "responses"  # the response cache, in the place of a mode
GUESSES, QUICK_GUESSES = 40, 6  # right ones, and as many wrong ones, in each attack on it
ADMIN_KEY = "sk-benchmark"
DEVICE_TOKENS = 16_384
# Longest match first, as published attacks have it; prefill in small steps, so that a queue is
# served in several rounds; a host tier three times the device.
SETTINGS = (
    *("--enable-hierarchical-cache", "--hicache-ratio", "3"),
    *("--chunked-prefill-size", "256", "--schedule-policy", "lpm"),
    *("--admin-api-key", ADMIN_KEY, "--log-level", "warning"),
)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    default = [UPSTREAM.name, SELECTIVE.name] if options.quick else list(MODES)
    chosen = options.modes or [*default, RESPONSES]
    if options.url and (len(chosen) != 1 or RESPONSES in chosen):
        parser.error("--url: say with one --modes which mode that server is in")
    modes = [MODES[name] for name in chosen if name != RESPONSES]
    judged: list[Target] = []
    with tempfile.TemporaryDirectory() as folder:
        if modes:
            judged += _modes(modes, options, Path(folder))
        if RESPONSES in chosen:
            judged += _responses(options, Path(folder))
    return 0 if all_met(judged) or not options.strict else 1


def _modes(modes: list[Mode], options: argparse.Namespace, folder: Path) -> list[Target]:
    """Attack the prefix cache in each mode; print, draw and return what is asked of it."""
    started, machine = time.monotonic(), describe()
    results: dict[str, Any] = {}
    for mode in modes:
        results[mode.name] = _attacked(mode, _effort(mode, options.quick), options, folder)
        tqdm.write(f"{mode.name}\n{summary(results[mode.name])}\n")
    judged = targets(results)
    print(verdicts(judged))
    report = {
        "machine": machine,
        "quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "settings": list(SETTINGS),
        "targets": rows(judged),
        "modes": results,
    }
    leave("side_channel", options.out, report, partial(draw, results))
    draw_times(results, options.out / "side_channel_ttft.png")
    return judged


def _responses(options: argparse.Namespace, folder: Path) -> list[Target]:
    """Attack the response cache of a server of its own; as ``_modes``."""
    started, machine = time.monotonic(), describe()
    guesses = QUICK_GUESSES if options.quick else GUESSES
    flags = cached_responses.flags(folder)
    with running(Model(options.model), ISOLATED, flags) as url:
        results = asyncio.run(_attack_responses(url, guesses))
    print(f"{RESPONSES}\n{response_targets.summary(results)}\n")
    judged = response_targets.targets(results)
    print(verdicts(judged))
    report = {
        "machine": machine,
        "quick": options.quick,
        "seconds": round(time.monotonic() - started),
        "settings": list(cached_responses.SETTINGS),
        "targets": rows(judged),
        "attacks": results,
    }
    leave("side_channel_responses", options.out, report, partial(response_figure.draw, results))
    return judged


async def _attack_responses(url: str, guesses: int) -> dict[str, Any]:
    total = 2 * guesses * len(cached_responses.ATTACKS)
    async with CompletionsClient(url) as client:
        with tqdm(total=total, desc=RESPONSES, unit="guess", leave=False, disable=None) as bar:
            scene = cached_responses.Scene(client, Prompts(SEED), bar.update)
            return await cached_responses.attack_responses(scene, guesses)


def _parser() -> argparse.ArgumentParser:
    quick, model = "few probes: does it run at all?", ".models/bench"
    parser = options_of(__doc__, quick=quick, strict=True, model=model)
    choices = [*MODES, RESPONSES]
    parser.add_argument(
        "--modes", nargs="+", choices=choices, metavar="MODE", help=", ".join(choices)
    )
    parser.add_argument("--url", help="attack this server instead of starting one")
    parser.add_argument("--admin-key", default=ADMIN_KEY, help="of the server at --url")
    parser.add_argument(
        "--device-tokens",
        type=int,
        default=DEVICE_TOKENS,
        help="of the server's KV pool: so many push a prompt out to host memory",
    )
    return parser


def _effort(mode: Mode, quick: bool) -> Effort:
    if quick:
        return QUICK
    return FULL if mode is SELECTIVE else FULL.halved()


def _attacked(
    mode: Mode, effort: Effort, options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    with _server(mode, options, folder) as url, tqdm(**_bar(mode)) as bar:
        return asyncio.run(_campaign(url, mode, effort, options, bar))


def _server(mode: Mode, options: argparse.Namespace, folder: Path) -> AbstractContextManager[str]:
    """The server that was named, or one of our own in which two users hold keys."""
    if options.url:
        return nullcontext(options.url)
    config = ("--tenant-config", str(write_config(folder))) if mode.has_owners else ()
    size = ("--max-total-tokens", str(options.device_tokens))
    monitor = SOONER if mode.promotes and not mode.window else ()
    return running(Model(options.model), mode, (*SETTINGS, *size, *config, *monitor))


def _bar(mode: Mode) -> dict[str, Any]:
    return {"desc": mode.name, "unit": "step", "leave": False, "disable": None}


async def _campaign(
    url: str, mode: Mode, effort: Effort, options: argparse.Namespace, bar: Any
) -> dict[str, Any]:
    async with Client(url, options.admin_key) as client:
        keyed = mode.has_owners and not options.url
        scenario = Scenario(client, Prompts(SEED), mode, effort, keyed, bar.update)
        await _warm_up(scenario)
        return await attack(scenario, options.device_tokens)


async def _warm_up(scenario: Scenario) -> None:
    """The first prompts of each size pay for memory that later ones find ready."""
    for tokens in (2, 65, 513) * 2:
        await scenario.client.ask(scenario.prompts.fresh(tokens), "warm-up")


if __name__ == "__main__":
    run(main)
