"""The sweep in figures: what a reader of ``monitor.json`` looks for first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from report.table import markdown

from probe_monitor.probers import ALONE, RARE
from probe_monitor.watched_cache import Pair

Results = Mapping[str, Any]


def at(results: Results, values: Sequence[Any], pair: Pair) -> Any:
    """What a row's list says of one pair."""
    row = list(results["min_hits"]).index(pair.min_hits)
    return values[row * len(results["thresholds"]) + results["thresholds"].index(pair.threshold)]


def false_share(results: Results, pair: Pair, least: int = 5) -> float:
    """Shared prefixes that ordinary use has demoted: the mean over populations of at least so
    many users, and over the jobs of one."""
    shares = [
        at(results, row["demoted"], pair) / row["prefixes"]
        for row in results["ordinary_users"]
        if row["users"] >= least or row["zipf"] is None
    ]
    return sum(shares) / len(shares)


def smallest_team(results: Results, pair: Pair) -> int | None:
    """The fewest users of whom, and of more than whom, no prefix is demoted."""
    rows = [row for row in results["ordinary_users"] if row["zipf"] is not None]
    hurt = [row["users"] for row in rows if at(results, row["demoted"], pair)]
    return min((row["users"] for row in rows if row["users"] > max(hurt, default=0)), default=None)


def probes(results: Results, pair: Pair, scenario: str, accounts: int) -> int | None:
    for row in results["probers"]:
        if (row["scene"], row["accounts"]) == (scenario, accounts):
            found: int | None = at(results, row["probes"], pair)
            return found
    raise KeyError((scenario, accounts))


ACCOUNTS_SHOWN = (1, 2, 3, 5)


def as_table(results: Results) -> str:
    """Probes until demotion are given for probers who are alone, and for those beside others."""
    heads = ["threshold / min hits", "false demotions", "spared from"]
    heads += [f"{accounts} account{'s' * (accounts > 1)}" for accounts in ACCOUNTS_SHOWN]
    thresholds = markdown(heads, (_row(results, pair) for pair in _chosen(results)))
    heads = ["a team of 10", "memory", "threshold", "cached tokens lost"]
    return "\n".join([*thresholds, "", *markdown(heads, map(_cost, results["costs"]))])


def _cost(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["workload"]
    yield f"{row['memory']:,}"
    yield f"{row['threshold']:g}"
    yield f"{row['lost_share']:.1%}"


def _chosen(results: Results) -> list[Pair]:
    default, former = (Pair(**results[name]) for name in ("default", "former_default"))
    others = [Pair(default.threshold, hits) for hits in (64, 1_024)]
    others += [Pair(threshold, default.min_hits) for threshold in (0.002, 0.005, 0.01, 0.05)]
    return sorted({default, former, *others})


def _row(results: Results, pair: Pair) -> Iterator[str]:
    yield f"{pair.threshold:g} / {pair.min_hits}"
    yield f"{false_share(results, pair):.0%}"
    yield f"{smallest_team(results, pair)} users"
    for accounts in ACCOUNTS_SHOWN:
        alone, rare = (probes(results, pair, s.name, accounts) for s in (ALONE, RARE))
        yield f"{alone or 'never'}, {rare or 'never'}"
