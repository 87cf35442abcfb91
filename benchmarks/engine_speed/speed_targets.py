"""What is asked of the engines that were compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.target import Target

from engine_speed.contenders import IN_ISOLATED, IN_SELECTIVE, IN_SHARED, WHEEL
from engine_speed.engine import HF
from engine_speed.load import DOCUMENT

SLOWER = 1.1  # than upstream, where nothing keeps users apart
FORK = (IN_SHARED.name, IN_ISOLATED.name, IN_SELECTIVE.name)

Workloads = Mapping[str, Mapping[str, Any]]


def targets(workloads: Workloads) -> list[Target]:
    return [
        target.of(workload=name)
        for name, found in workloads.items()
        for target in (*_same_answers(found), *_as_fast(name, found), *_faster(name, found))
    ]


def _same_answers(found: Mapping[str, Any]) -> Iterator[Target]:
    """In exact arithmetic all would be equal: no difference may be one that rounding does not
    explain."""
    for name, engine in found["engines"].items():
        same = engine["agreement"]
        widest = max(same["margins"], default=0.0)
        shown = f"{same['equal']} of {same['answers']} answers equal"
        if same["margins"]:
            shown += f", margin up to {widest:.1e}"
        yield Target("differences are ties", widest, 1e-3, shown=shown).of(engine=name)


def _as_fast(workload: str, found: Mapping[str, Any]) -> Iterator[Target]:
    """Where users share nothing, or all of it. From an empty cache, the other modes compute one
    document for each user, or until it is public. Processor time: what else the machine does
    adds little to it."""
    for name in FORK:
        if name not in found["engines"] or (workload == DOCUMENT and name != IN_SHARED.name):
            continue
        if WHEEL.name in found["engines"]:
            ours, theirs = (found["engines"][who] for who in (name, WHEEL.name))
            computed = (each["processor_seconds"]["value"] for each in (ours, theirs))
            value = next(computed) / max(next(computed), 0.01)
            beside = f"time {_inverse(ours['faster_than'][WHEEL.name])}"
            target = Target("processor time over upstream's", value, SLOWER, beside=beside)
            yield target.of(engine=name)


def _faster(workload: str, found: Mapping[str, Any]) -> Iterator[Target]:
    for name in FORK:
        if name in found["engines"]:
            faster = found["engines"][name]["faster_than"][HF]
            asked = None if (workload, name) == (DOCUMENT, IN_ISOLATED.name) else 1.0
            shown = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**faster)
            target = Target("as fast as generate", faster["value"], asked, ">=", shown=shown)
            yield target.of(engine=name)


def _inverse(value: Mapping[str, float]) -> str:
    return f"{1 / value['value']:.2f} [{1 / value['high']:.2f}, {1 / value['low']:.2f}]"
