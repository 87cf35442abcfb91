"""The results of attacks and crowds as tables, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from report.table import markdown
from report.target import Target

from colluding.cells import COUNT, DEFAULT, SETTINGS

Results = dict[str, Any]

WORTH_IT = 0.99  # of what counting users keeps


def as_table(results: Results) -> str:
    attacks = markdown(
        ("promotion", "attack", "accounts", "right", "wrong", "advantage", "bound"),
        (
            (
                row["setting"],
                row["attack"],
                str(row["accounts"]),
                f"{row['true']:.3f}",
                f"{row['false']:.3f}",
                f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "none" if row["setting"] == COUNT.name else f"{row['bound']:.3f}",
            )
            for row in results["attacks"]
        ),
    )
    crowds = markdown(
        ("users per prefix", "promotion", "kept, first window", "kept, warm", "tokens held"),
        (
            (
                f"{row['crowd']:,}",
                row["policy"],
                f"{row['from_empty']:.1%}",
                f"{row['warm']:.1%}",
                f"{row['held']:,}",
            )
            for row in results["crowds"]
        ),
    )
    return "\n".join((*attacks, "", *crowds, ""))


def targets(results: Results) -> list[Target]:
    return [*_of_attacks(results["attacks"]), *_of_crowds(results)]


def _of_attacks(rows: Sequence[dict[str, Any]]) -> Iterator[Target]:
    counted = max((row for row in rows if row["setting"] == COUNT.name), key=_low)
    yield Target(
        "counting users: the best attack tells more than any bound below allows",
        counted["low"],
        counted["bound"],
        ">",
        shown=_interval(counted),
    )
    for setting in SETTINGS:
        tried = [row for row in rows if row["setting"] == setting.name]
        if tried:
            best = max(tried, key=lambda row: float(row["high"]))
            yield Target(
                f"{setting.name}: no attack tells more than its bound",
                best["high"],
                setting.bound,
                "<",
                shown=f"{_interval(best)}, {best['attack']}, {best['accounts']} accounts",
                form=".3f",
            )


def _of_crowds(results: Results) -> Iterator[Target]:
    least = least_crowd(results, DEFAULT.name)
    yield Target("least crowd for which the default is worth it", least, 30, "<=")


def least_crowd(results: Results, policy: str) -> int | None:
    """The fewest users per prefix from which on a policy keeps nearly what counting users keeps."""
    least = None
    for crowd in sorted({row["crowd"] for row in results["crowds"]}, reverse=True):
        if kept(results, crowd, policy) < WORTH_IT * kept(results, crowd, COUNT.name):
            break
        least = int(crowd)
    return least


def kept(results: Results, crowd: int, policy: str) -> float:
    """Share of upstream's cached tokens, warm."""
    return next(
        float(row["warm"])
        for row in results["crowds"]
        if row["crowd"] == crowd and row["policy"] == policy
    )


def _low(row: dict[str, Any]) -> float:
    return float(row["low"])


def _interval(row: dict[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
