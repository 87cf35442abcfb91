"""The summary as Markdown, beside what others have published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.table import markdown
from sharing_cost.methods import DIVIDED, SALTED, SELECTED, SHARED_BY_ALL
from sharing_cost.passes import AT_ONCE, COLD, WARM
from workloads.made_up import SHARING as SHARED

from gpu_cells.cells import ATTACK, EVICTION, FAIRNESS, SHARING

Figures = Mapping[str, Any]
ON_A_CPU = (
    "**Measured on a CPU with a tiny model: this shows that the benchmark runs, and says nothing "
    "of a GPU.**"
)
# arXiv 2508.08438, version 2: 8 x H20, six models, other workloads than ours.
SAFEKV_SOONER, SAFEKV_FASTER = "up to 40.58 %", "1.36 to 2.66"
SAFEKV_LATER = "11.74 % (Qwen3-235B) to 34.28 % (DeepSeek-R1), multi-turn"
METHODS = (SHARED_BY_ALL, SALTED, DIVIDED, SELECTED)


def as_markdown(report: Figures) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Figures) -> Iterator[str]:
    found = report["summary"]
    yield f"# On {report['name']}\n"
    if report["device"] == "cpu":
        yield ON_A_CPU + "\n"
    yield f"{report['done']} of {report['cells']} cells are measured{_rest(report)}\n"
    if found[SHARING]:
        yield "## Beside what SafeKV has published\n"
        yield from _published(found[SHARING])
        yield "\n## What keeping users apart costs\n"
        yield from _sharing(found[SHARING])
    if found[ATTACK]:
        yield "\n## What an attacker learns\n"
        yield from _attacks(found[ATTACK])
    if found[FAIRNESS]:
        yield "\n## Who is served\n"
        yield from _fairness(found[FAIRNESS])
    if found[EVICTION]:
        yield f"\n## An eviction, at {report['plan']['trees']['leaves']:,} leaves\n"
        rows = [(name, _range(us, ",.0f")) for name, us in found[EVICTION].items()]
        yield from markdown(("tree", "microseconds"), rows)


def _rest(report: Figures) -> str:
    parts = [f"{name} failed: {why.splitlines()[0]}" for name, why in report["failed"].items()]
    return "; ".join(["", *parts, *report["left_out"]]) + "."


def _published(sharing: Figures) -> Iterator[str]:
    """Only workloads in which users share: where they do not, there is nothing to win."""
    rows = {
        "first token sooner than in isolation": (SAFEKV_SOONER, "isolated", "ttft"),
        "times the throughput of isolation": (SAFEKV_FASTER, "isolated", "throughput"),
        "first token later than with full sharing": (SAFEKV_LATER, "upstream", "ttft"),
    }
    head = ("", "SafeKV", "here, at best", "here, at worst")
    yield from markdown(
        head, ((name, row[0], *_extremes(sharing, *row[1:])) for name, row in rows.items())
    )


def _extremes(sharing: Figures, other: str, key: str) -> tuple[str, str]:
    found = [
        (workload["against"][other][key], f"{model}, {name}")
        for model, workloads in sharing.items()
        for name, workload in workloads.items()
        if name in SHARED and other in workload["against"]
    ]
    if not found:
        return "-", "-"
    ordered = sorted(found, key=lambda each: each[0]["value"], reverse=key == "throughput")
    best, worst = (f"{_shown(v, other, key)} ({where})" for v, where in (ordered[0], ordered[-1]))
    return best, worst


def _shown(value: Figures, other: str, key: str) -> str:
    if key == "throughput":
        return _range(value, ".2f")
    if other == "upstream":
        return _percent({name: each - 1 for name, each in value.items()})
    sooner = {"value": 1 - value["value"], "low": 1 - value["high"], "high": 1 - value["low"]}
    return _percent(sooner)


def _sharing(sharing: Figures) -> Iterator[str]:
    head = (
        *("model", "workload", "", "cached, warm", "first token, ms", "p95, ms"),
        *("prompt tokens/s, all at once", "cached, from empty", "first token, from empty, ms"),
    )
    rows = [
        (
            *(model, name, method.name),
            _percent(stages[WARM]["cached_share"]),
            _range(stages[WARM]["ttft_mean"], ".1f"),
            _range(stages[WARM]["ttft_p95"], ".1f"),
            _range(stages[AT_ONCE]["tokens_per_second"], ",.0f"),
            _percent(stages[COLD]["cached_share"]),
            _range(stages[COLD]["ttft_mean"], ".1f"),
        )
        for model, workloads in sharing.items()
        for name, workload in workloads.items()
        for method in METHODS
        if (stages := workload["methods"].get(method.name))
    ]
    yield from markdown(head, rows)


def _attacks(attacks: Figures) -> Iterator[str]:
    head = ("model", "mode", "AUC by time", "guesses confirmed", "from host", "targets missed")
    rows = [
        (
            *(model, mode),
            "; ".join(f"{length} tokens: {_auc(auc)}" for length, auc in found["auc"].items()),
            f"{found['confirmed']:,} of {found['right_guesses']:,}",
            f"{found['from_host']:,} tokens",
            "; ".join(found["missed"]) or f"none of {found['targets']}",
        )
        for model, modes in attacks.items()
        for mode, found in modes.items()
    ]
    yield from markdown(head, rows)


def _auc(auc: Figures) -> str:
    return f"{auc['auc']:.2f} ({auc['wide_low']:.2f} to {auc['wide_high']:.2f})"


def _fairness(fairness: Figures) -> Iterator[str]:
    head = (
        *("scenario", "policy", "smallest share of those who wait", "victim's p99, times alone"),
        *("tokens/s", "cached"),
    )
    rows = [
        (
            *(scenario, policy),
            _percent(found.get("smallest_share")),
            _range(found.get("p99_over_alone"), ".2f"),
            _range(found.get("throughput"), ",.0f"),
            _percent(found.get("hit_rate")),
        )
        for scenarios in fairness.values()
        for scenario, policies in scenarios.items()
        for policy, found in policies.items()
    ]
    yield from markdown(head, rows)


def _percent(value: Figures | None) -> str:
    scaled = value and {name: 100 * each for name, each in value.items()}
    return f"{_range(scaled, '.1f')} %" if scaled else "-"


def _range(value: Figures | None, form: str) -> str:
    """``value`` (``low`` to ``high``)."""
    if not value:
        return "-"
    shown, low, high = (f"{value[name]:{form}}" for name in ("value", "low", "high"))
    return shown if low == high else f"{shown} ({low} to {high})"
