"""The figures as Markdown: one page for the terminal, the results folder and a pull request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from report.table import markdown

PLACES = {
    "live": "live: a real server, wall-clock; noisy on a small or busy machine",
    "replay": "replay: real policies and cache on a modelled device; the same on every machine",
}
NEVER, UNKNOWN = "never", "–"

Figures = Mapping[str, Any]
Column = tuple[str, Callable[[Figures], str]]


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _tokens(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def _seconds(figures: Figures) -> str:
    victim = figures["victim"]
    if victim is None:
        return UNKNOWN
    return " / ".join(
        NEVER if victim[p] is None else f"{victim[p]:.2f}" for p in ("p50", "p95", "p99")
    )


def _over_alone(figures: Figures) -> str:
    ratio = (figures["victim"] or {}).get("p99_over_alone")
    return UNKNOWN if ratio is None else f"{ratio:.1f}"


def _slowdown(figures: Figures) -> str:
    user = (figures["victim"] or {}).get("user")
    found = figures["users"].get(user, {}).get("slowdown")
    return UNKNOWN if found is None else f"{found:.1f}"


def _gap(figures: Figures) -> str:
    gap = figures["gap"]
    found = gap["seen"] if gap["exact"] is None else gap["exact"]
    return f"{_tokens(found)} ({_tokens(gap['bound'])})"


def _difference(figures: Figures) -> str:
    found = figures["difference"]
    return f"{found['max']:,.0f} / {found['mean']:,.0f} / {found['variance']:,.0f}"


def _hits(figures: Figures) -> str:
    victim = figures["victim"]
    own = "" if victim is None else f", victim {victim['hit_rate']:.0%}"
    return f"{figures['hit_rate']:.0%}{own}"


def _idle(figures: Figures) -> str:
    return UNKNOWN if figures["idle"] is None else f"{figures['idle']:.1%}"


def _finished(figures: Figures) -> str:
    counts = figures.get("outcomes")
    if counts is None:
        return "all"
    lost = [f"{counts[key]} {key}" for key in ("refused", "failed") if counts[key]]
    return ", ".join([f"{counts['finished']} of {counts['asked']}", *lost])


COLUMNS: Sequence[Column] = (
    ("smallest served / entitled", lambda f: _share(f["smallest_share"])),
    ("of who always waits", lambda f: _share(f["smallest_share_backlogged"])),
    ("victim's first token p50 / p95 / p99, s", _seconds),
    ("p99 over alone", _over_alone),
    ("victim's slowdown", _slowdown),
    ("largest difference (VTC's bound)", _gap),
    ("windowed difference max / mean / variance", _difference),
    ("Jain of served / entitled", lambda f: _share(f["jain"]["by_entitled"])),
    ("cached", _hits),
    ("tokens/s", lambda f: _tokens(f["throughput"])),
    ("idle with work waiting", _idle),
    ("finished", _finished),
)


def as_markdown(report: Mapping[str, Any]) -> str:
    lines = ["# Fair service, measured", "", "Made by `make bench-fairness`."]
    lines += ["What the columns mean: [docs/fairness.md](../../docs/fairness.md).", ""]
    places = [place for place in PLACES if place in report]
    for place in places:
        lines += [f"## {PLACES[place]}", "", *_overview(report[place]["scenarios"]), ""]
    names = dict.fromkeys(name for place in places for name in report[place]["scenarios"])
    for name in names:
        lines += _scenario(name, {place: report[place]["scenarios"].get(name) for place in places})
    lines += _targets(report.get("targets", []))
    return "\n".join(lines).rstrip() + "\n"


def _overview(scenarios: Mapping[str, Any]) -> Iterator[str]:
    """Policies x the worst of all scenarios; of those that played in more than one."""
    names = Counter(p for each in scenarios.values() for p in each["policies"])
    policies = [name for name in names if names[name] > 1 or len(scenarios) == 1]
    head = [
        "policy",
        "smallest served / entitled",
        "of who always waits",
        "victim's p99 over alone, geometric mean",
        "victims whose last requests were not served in time",
        "tokens/s, mean",
        "cached, mean",
    ]
    worst = ((p, *_worst([s["policies"].get(p) for s in scenarios.values()])) for p in policies)
    yield from markdown(head, worst)


def _worst(found: Sequence[Figures | None]) -> Iterator[str]:
    figures = [each for each in found if each is not None]
    yield _share(min(f["smallest_share"] for f in figures))
    shares = [f["smallest_share_backlogged"] for f in figures]
    yield _share(min((s for s in shares if s is not None), default=None))
    victims = [f["victim"] for f in figures if f["victim"] is not None]
    ratios = [v["p99_over_alone"] for v in victims if "p99_over_alone" in v]
    logs = [math.log(ratio) for ratio in ratios]
    yield f"{math.exp(sum(logs) / len(logs)):.1f}" if logs else UNKNOWN
    yield f"{sum(v['p99'] is None for v in victims)} of {len(victims)}"
    yield _tokens(sum(f["throughput"] for f in figures) / len(figures))
    yield f"{sum(f['hit_rate'] for f in figures) / len(figures):.0%}"


def _scenario(name: str, places: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    known = {place: found for place, found in places.items() if found}
    yield f"## {name}"
    yield ""
    yield f"{next(iter(known.values()))['about'].capitalize()}."
    yield ""
    rows = (
        (place, policy, *(form(figures) for _, form in COLUMNS))
        for place, found in known.items()
        for policy, figures in found["policies"].items()
    )
    yield from markdown(["", "policy", *(title for title, _ in COLUMNS)], rows)
    yield ""


def _targets(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "## Targets"
    yield ""
    columns = ("where", "scenario", "policy", "target", "measured", "beside")
    cells = ((*(str(r[key]) for key in columns), "yes" if r["met"] else "**no**") for r in rows)
    yield from markdown(["", "scenario", "policy", "target", "measured", "upstream", "met"], cells)
