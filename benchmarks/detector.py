"""What the detector finds, how fast it reads, and what it costs a request.

    python benchmarks/detector.py [--items 5000] [--seed 1] [--requests 150] [--model DIR]
                                  [--out benchmarks/results]

Writes detector.json and detector.png. The texts are those of detector_texts.py. For the cost of
a request, two servers run side by side, one with the detector and one without, and get the same
requests in turn.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import string
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import psutil

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from detector_texts import EN_FILL, Text, Writer

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import demo_model
from support.server import Server

from sglang.srt.tenancy.detect.finding import Finding
from sglang.srt.tenancy.detect.rules import Rules, find
from sglang.srt.tenancy.detect.scan import Scanner

RESULTS = Path(__file__).resolve().parent / "results"
BYTES = [bytes([value]) for value in range(256)]
SPEED_SECONDS = 3.0
PROMPT = 2_000  # characters; with the demo model as many tokens
DETECTORS = ("none", "rules")


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
    speeds["tokens, all new"] = _rate(
        lambda: Scanner(BYTES, [Rules()]).judge([prompt]), len(prompt)
    )
    scanner = Scanner(BYTES, [Rules()])
    scanner.judge([prompt[:18_000]])
    turns = iter(range(10**9))

    def next_turn() -> None:
        scanner.judge([[*prompt[:18_000], *str(next(turns)).encode(), *prompt[18_000:]]])

    speeds["tokens, 9 of 10 remembered"] = _rate(next_turn, len(prompt))
    return {name: round(value) for name, value in speeds.items()}


def _rate(work: Any, size: int) -> float:
    work()
    rounds, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SPEED_SECONDS:
        work()
        rounds += 1
    return size * rounds / passed


def cost(model: Path, requests: int, at_once: int) -> dict[str, Any]:
    """Milliseconds to the first token: medians for each detector, of pairs in turn. And what a
    request costs the processor, in the HTTP process and in the detector's (start included)."""
    flags = ("--enable-tenant-cache", "--max-total-tokens", "32768", "--admin-api-key", "sk-bench")
    with (
        Server(model, *flags, "--tenant-detector", "none") as without,
        Server(model, *flags, "--tenant-detector", "rules") as with_it,
        ThreadPoolExecutor(at_once) as pool,
    ):
        servers = dict(zip(DETECTORS, (without, with_it), strict=True))
        chance = random.Random(0)
        times: dict[str, list[float]] = {name: [] for name in DETECTORS}
        before = dict.fromkeys(DETECTORS, 0.0)
        for number in range(-10, requests):
            prompts = [_prompt(chance) for _ in range(at_once)]
            order = DETECTORS if number % 2 else DETECTORS[::-1]
            if number == 0:
                before = {name: _cpu(servers[name].running.popen.pid) for name in DETECTORS}
            for name in order:
                url = servers[name].url
                seen = list(pool.map(lambda prompt, url=url: _first_token(url, prompt), prompts))
                if number >= 0:  # the first ones warm up
                    times[name] += seen
        after = {name: _cpu(servers[name].running.popen.pid) for name in DETECTORS}
        detector = httpx.get(
            f"{with_it.url}/tenant/detector", headers={"Authorization": "Bearer sk-bench"}
        ).json()["detector"]
        detector_cpu = _cpu(detector["pid"])
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    differences = [b - a for a, b in zip(times["none"], times["rules"], strict=True)]
    return {
        "at_once": at_once,
        "requests": len(differences),
        "median_ms": medians,
        "p90_ms": {name: round(statistics.quantiles(v, n=10)[8], 3) for name, v in times.items()},
        "median_of_differences_ms": round(statistics.median(differences), 3),
        "interval_95_ms": _interval(differences),
        "http_process_cpu_ms": {
            name: round(1000 * (after[name] - before[name]) / len(differences), 3)
            for name in DETECTORS
        },
        "detector_cpu_ms": round(
            1000 * detector_cpu / max(1, detector["counts"].get("judged", 0)), 3
        ),
        "judged": detector["counts"].get("judged", 0),
    }


def _cpu(pid: int) -> float:
    """Seconds that a process has computed: other load on the machine does not add to them."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _interval(values: Sequence[float]) -> list[float]:
    """Of the median, by resampling."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(2000))
    return [round(medians[50], 3), round(medians[1949], 3)]


def _prompt(chance: random.Random) -> str:
    start = "".join(chance.choices(string.ascii_lowercase, k=20))  # nothing of it is cached
    text = start
    while len(text) < PROMPT:
        text += " " + chance.choice(EN_FILL)
    return text[:PROMPT]


def _first_token(url: str, prompt: str) -> float:
    """Milliseconds until the first piece of a streamed reply."""
    body = {
        "text": prompt,
        "user_id": "bench",
        "stream": True,
        "sampling_params": {"max_new_tokens": 2, "temperature": 0, "ignore_eos": True},
    }
    start = time.perf_counter()
    with httpx.stream("POST", f"{url}/generate", json=body, timeout=120) as reply:
        lines = reply.iter_lines()
        next(lines)
        passed = time.perf_counter() - start
        for _ in lines:
            pass
    return passed * 1000


def draw(results: dict[str, Any], path: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 5))
    kinds = results["quality"]["kinds"]
    places = range(len(kinds))
    for offset, (name, label) in enumerate(
        [("recall", "recall"), ("precision", "precision"), ("kept_private", "kept private")]
    ):
        values = [kind[name] or 0 for kind in kinds.values()]
        left.barh([place + 0.27 * (1 - offset) for place in places], values, 0.27, label=label)
    left.set_yticks(list(places), list(kinds))
    left.set_xlim(0, 1.02)
    left.set_title(f"rules, {results['quality']['texts']} texts")
    left.legend(loc="lower left")
    speeds = results["characters_per_second"]
    middle.barh(list(speeds), [value / 1e6 for value in speeds.values()])
    middle.set_title("million characters a second, one core")
    costs = results["first_token"]
    for offset, name in enumerate(DETECTORS):
        values = [one["median_ms"][name] for one in costs]
        right.bar([i + 0.4 * offset for i in range(len(costs))], values, 0.4, label=name)
    right.set_xticks(
        [i + 0.2 for i in range(len(costs))], [f"{one['at_once']} at once" for one in costs]
    )
    right.set_title(f"first token of {PROMPT} new tokens, median ms")
    right.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    texts = Writer(options.seed).texts(options.items)
    results: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "seed": options.seed,
        "quality": quality(texts),
        "characters_per_second": speed(texts),
    }
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or Path(folder) / "model"
        if options.model is None:
            demo_model.make_model(model)
        results["first_token"] = [
            cost(model, options.requests, 1),
            cost(model, options.requests // 4, 4),
        ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "detector.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, options.out / "detector.png")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
