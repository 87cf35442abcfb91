"""What is asked of the response cache, and whether it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.table import aligned
from report.target import Target

from attacks.attack_targets import FEW, TOLD, all_of, interval, none_of, part_of, silent

IN_TIME = 0.9  # of the requests that are to find a computation going on: few may come late

Results = Mapping[str, Mapping[str, Any]]


def targets(results: Results) -> list[Target]:
    return [
        target.of(attack=name)
        for name, result in results.items()
        for target in (_open(result) if result["works"] else _closed(result))
    ]


def _open(result: Mapping[str, Any]) -> Iterator[Target]:
    """The attack must work where nothing binds the name: else it would prove nothing elsewhere."""
    yield all_of("right guesses answered as the victim was", result["told"], result["guesses"])
    yield none_of("wrong ones that were", result["false"], str(result["false"]))
    yield _felt("AUC by time", result["by_time"]["auc"])


def _closed(result: Mapping[str, Any]) -> Iterator[Target]:
    told, asked = result["told"], result["guesses"]
    yield none_of("no right guess answered as the victim was", told, part_of(told, asked))
    shown = f"{_counts(result['answers_right'])}; {_counts(result['answers_wrong'])}"
    yield Target.holds("right and wrong guesses look alike", result["alike"], shown)
    if 2 * asked >= FEW:
        by_time = result["by_time"]
        yield silent("AUC by time silent", by_time["wide_low"], by_time["wide_high"])
    owners, found = result["owner_asked"], result["owner_hits"]
    yield all_of("the victim is given the first answer again", found, owners)
    if result["under_way"]:
        joined = result["owner_joined"]
        share, shown = joined / owners, part_of(joined, owners)
        yield Target("of that, while it was computed", share, IN_TIME, ">=", shown=shown)
    yield _felt("AUC by time of the victim's second requests", result["owner_by_time"]["auc"])


def _felt(name: str, auc: float) -> Target:
    return Target(f"{name} above {TOLD}", auc, TOLD, ">", shown=f"{auc:.3f}")


def _counts(answers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} x {answer}" for answer, number in answers.items())


def summary(results: Results) -> str:
    """Return a row for each attack, for the terminal."""
    head = ("attack", "told", "answers", "AUC by time", "interval", "ms right, wrong")
    more = ("victim again", "AUC by time", "ms first, again")
    return aligned((*head, *more), map(_row, results.items()))


def _row(item: tuple[str, Mapping[str, Any]]) -> list[str]:
    name, result = item
    attacker, owner = result["by_time"], result["owner_by_time"]
    return [
        name,
        part_of(result["told"], result["guesses"]),
        _counts(result["answers_right"]),
        f"{attacker['auc']:.3f}",
        interval(attacker),
        _medians(attacker),
        part_of(result["owner_hits"], result["owner_asked"]),
        f"{owner['auc']:.3f}",
        f"{-1e3 * owner['median_miss']:.1f}, {-1e3 * owner['median_hit']:.1f}",
    ]


def _medians(by_time: Mapping[str, Any]) -> str:
    return f"{-1e3 * by_time['median_hit']:.1f}, {-1e3 * by_time['median_miss']:.1f}"
