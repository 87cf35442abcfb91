"""What the detector finds, how fast it reads, and what it costs a request.

    python benchmarks/detector.py [--items 5000] [--seed 1] [--pairs 160] [--model DIR]
                                  [--out benchmarks/results]

Writes detector.json and detector.png. The texts are those of labelled_texts; what a request
pays is measured by detector_latency.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detector_latency import FIELDS, PROMPT, first_tokens, processor
from labelled_texts.texts import Text, labelled_texts
from matplotlib.axes import Axes
from report.figure import drawn
from report.machine import SERVING, describe
from report.program import leave, options_of, run
from serving.server import RULES, Model, running

from sglang.srt.tenancy.detect.finding import Finding
from sglang.srt.tenancy.detect.rules import Rules, find
from sglang.srt.tenancy.detect.scan import Scanner

BYTES = [bytes([value]) for value in range(256)]
SPEED_SECONDS = 3.0
ADMIN_KEY = "sk-benchmark"


def quality(texts: Sequence[Text]) -> dict[str, Any]:
    """Counts of texts. ``found``: of those with a label, the detector names that kind; ``kept
    private``: it names any kind, be it as a hint; ``wrong``: it names the kind where it is not
    labelled."""
    found = [find(text.text) for text in texts]
    labels = sorted({label for text in texts for label in text.labels})
    kinds = {label: _kind(label, texts, found) for label in labels}
    sources = {}
    for source in sorted({text.source for text in texts}):
        of_it = [
            bool(what) for text, what in zip(texts, found, strict=True) if text.source == source
        ]
        sources[source] = {"texts": len(of_it), "kept_private": sum(of_it)}
    harmless = [what for text, what in zip(texts, found, strict=True) if not text.labels]
    sensitive = [what for text, what in zip(texts, found, strict=True) if text.labels]
    return {
        "texts": len(texts),
        "kinds": kinds,
        "sources": sources,
        "sensitive": {"texts": len(sensitive), "kept_private": sum(map(bool, sensitive))},
        "harmless": {"texts": len(harmless), "kept_private": sum(map(bool, harmless))},
    }


def _kind(label: str, texts: Sequence[Text], found: Sequence[list[Finding]]) -> dict[str, Any]:
    pairs = list(zip(texts, found, strict=True))
    labelled = [{one.kind for one in what} for text, what in pairs if label in text.labels]
    named = [text for text, what in pairs if label in {one.kind for one in what}]
    right = sum(label in kinds for kinds in labelled)
    return {
        "texts": len(labelled),
        "found": right,
        "wrong": len(named) - right,
        "recall": round(right / len(labelled), 4),
        "precision": round(right / len(named), 4) if named else None,
        "kept_private": round(sum(map(bool, labelled)) / len(labelled), 4),
    }


def speed(texts: Sequence[Text]) -> dict[str, float]:
    """Characters a second of one core, cold, and with 9 of 10 characters remembered."""
    speeds = {}
    for language in ("en", "zh", "code"):
        text = " ".join(text.text for text in texts if text.language == language)[:100_000]
        speeds[f"rules {language}"] = _rate(lambda text=text: find(text), len(text))
    prompt = list(" ".join(text.text for text in texts if not text.labels).encode()[:20_000])
    speeds["tokens, all new"] = _rate(lambda: Scanner(BYTES, [Rules()]).scan([prompt]), len(prompt))
    scanner = Scanner(BYTES, [Rules()])
    scanner.scan([prompt[:18_000]])
    turns = iter(range(10**9))

    def next_turn() -> None:
        scanner.scan([[*prompt[:18_000], *str(next(turns)).encode(), *prompt[18_000:]]])

    speeds["tokens, 9 of 10 remembered"] = _rate(next_turn, len(prompt))
    return {name: round(value) for name, value in speeds.items()}


def _rate(work: Any, size: int) -> float:
    work()
    rounds, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SPEED_SECONDS:
        work()
        rounds += 1
    return size * rounds / passed


def cost(model: Path, pairs: int) -> dict[str, Any]:
    """On one server, as it is by default."""
    settings = ("--max-total-tokens", "32768", "--admin-api-key", ADMIN_KEY)
    with running(Model(model, "tiny"), RULES, (*settings, "--log-level", "warning")) as url:
        return {
            "first_token": [
                asyncio.run(first_tokens(url, ADMIN_KEY, pairs, 1)),
                asyncio.run(first_tokens(url, ADMIN_KEY, pairs // 4, 4)),
            ],
            "processor_ms": asyncio.run(processor(url, ADMIN_KEY, max(2, pairs // 40))),
        }


def draw(results: dict[str, Any], path: Path) -> None:
    with drawn(path, 1, 3, size=(15, 5), layout=None) as (figure, (left, middle, right)):
        _qualities(left, results["quality"])
        speeds = results["characters_per_second"]
        middle.barh(list(speeds), [value / 1e6 for value in speeds.values()])
        middle.set_title("million characters a second, one core")
        _first_tokens(right, results["first_token"])
        figure.tight_layout()


def _qualities(axis: Axes, found: dict[str, Any]) -> None:
    kinds = found["kinds"]
    for offset, name in enumerate(("recall", "precision", "kept_private")):
        places = [place + 0.27 * (1 - offset) for place in range(len(kinds))]
        values = [kind[name] or 0 for kind in kinds.values()]
        axis.barh(places, values, 0.27, label=name.replace("_", " "))
    axis.set_yticks(range(len(kinds)), list(kinds))
    axis.set_xlim(0, 1.02)
    axis.set_title(f"rules, {found['texts']} texts")
    axis.legend(loc="lower left")


def _first_tokens(axis: Axes, costs: list[dict[str, Any]]) -> None:
    for offset, name in enumerate(FIELDS):
        values = [one["median_ms"][name] for one in costs]
        axis.bar([i + 0.4 * offset for i in range(len(costs))], values, 0.4, label=name)
    names = [f"{one['at_once']} at once" for one in costs]
    axis.set_xticks([i + 0.2 for i in range(len(costs))], names)
    axis.set_title(f"first token of {PROMPT} new tokens, median ms")
    axis.legend(loc="lower right")


def main() -> None:
    parser = options_of(__doc__, model=".models/tiny")
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=160, help="of requests, read and not read")
    options = parser.parse_args()
    texts = labelled_texts(options.items, options.seed)
    results: dict[str, Any] = {
        "machine": describe(*SERVING, "python"),
        "seed": options.seed,
        "quality": quality(texts),
        "characters_per_second": speed(texts),
    }
    results |= cost(options.model, options.pairs)
    print(json.dumps(results, indent=2))
    leave("detector", options.out, results, partial(draw, results))


if __name__ == "__main__":
    run(main)
