"""What the cells come to: each figure of all seeds together, with an interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from serving.separation import separation
from sharing_cost.methods import DIVIDED, METHODS, SALTED, SELECTED, SHARED_BY_ALL, Method
from sharing_cost.passes import AT_ONCE, COLD, WARM
from sharing_cost.sharing_targets import ratio

from gpu_cells.cells import ATTACK, EVICTION, FAIRNESS, SHARING, Cell, Store

Figures = Mapping[str, Any]
Seeds = Mapping[int, Figures]  # seed -> what was found
Value = dict[str, float]  # value, low, high
OTHERS = {"isolated": DIVIDED, "salt": SALTED, "upstream": SHARED_BY_ALL}


def summary(store: Store, cells: Iterable[Cell]) -> dict[str, Any]:
    """Part -> model -> figures, of what has been measured."""
    found: dict[str, dict[str, dict[str, dict[int, Figures]]]] = {}
    for cell in cells:
        if (figures := store.figures(cell)) is not None:
            modes = found.setdefault(cell.part, {}).setdefault(cell.model, {})
            modes.setdefault(cell.mode, {})[cell.seed] = figures
    return {
        SHARING: {model: _sharing(modes) for model, modes in found.get(SHARING, {}).items()},
        ATTACK: {
            model: {mode: _attack(list(seeds.values())) for mode, seeds in modes.items()}
            for model, modes in found.get(ATTACK, {}).items()
        },
        FAIRNESS: {model: _fairness(modes) for model, modes in found.get(FAIRNESS, {}).items()},
        EVICTION: _evictions(found.get(EVICTION, {}).get("", {}).get("", {})),
    }


def _sharing(modes: Mapping[str, Seeds]) -> dict[str, Any]:
    """Workload -> figures of each method, and selective mode's against the others'."""
    workloads = list(next(iter(next(iter(modes.values())).values())))
    return {
        workload: {
            "methods": {
                method.name: _stages(modes[method.name], workload)
                for method in METHODS
                if method.name in modes
            },
            "against": {
                name: against
                for name, other in OTHERS.items()
                if (against := _against(modes, other, workload))
            },
        }
        for workload in workloads
    }


def _stages(seeds: Seeds, workload: str) -> dict[str, dict[str, Value]]:
    return {
        stage: {
            key: spread([figures[workload][stage][key] for figures in seeds.values()])
            for key in ("cached_share", "ttft_mean", "ttft_p95", "tokens_per_second")
        }
        for stage in (COLD, WARM, AT_ONCE)
    }


def _against(modes: Mapping[str, Seeds], other: Method, workload: str) -> dict[str, Value] | None:
    """Of the seeds that both have. ``ttft``: selective mode's mean / the other's, by request;
    ``cold``: the same from an empty cache; ``throughput``: of the same passes."""
    ours, theirs = modes.get(SELECTED.name, {}), modes.get(other.name, {})
    both = [(ours[n][workload], theirs[n][workload]) for n in ours if n in theirs]
    if not both:
        return None
    speeds = [a[AT_ONCE]["tokens_per_second"] / b[AT_ONCE]["tokens_per_second"] for a, b in both]
    return {
        "ttft": _times(both, WARM),
        "cold": _times(both, COLD),
        "throughput": spread(speeds),
    }


def _times(both: Sequence[tuple[Figures, Figures]], stage: str) -> Value:
    """The ratio of mean times, and its bootstrap interval over requests."""
    ours, theirs = (
        [t for each in side for t in each[stage]["ttft"]] for side in zip(*both, strict=True)
    )
    return dict(zip(("value", "low", "high"), ratio(ours, theirs), strict=True))


def spread(values: Sequence[float]) -> Value:
    """The mean of the seeds, the lowest and the highest."""
    return {"value": float(np.mean(values)), "low": min(values), "high": max(values)}


def _attack(seeds: Sequence[Figures]) -> dict[str, Any]:
    """Probes of all seeds together."""
    trials = [t for each in seeds for t in (*each["counted"], each["chat"])]
    judged = [target for each in seeds for target in each["targets"]]
    return {
        "private": seeds[0]["private"],
        "auc": {length: asdict(_auc(seeds, length)) for length in seeds[0]["membership"]},
        "right_guesses": sum(t["right_guesses"] for t in trials),
        "confirmed": sum(t["confirmed"] for t in trials),
        "from_host": sum(each["host_tier"]["from_host"] for each in seeds),
        "targets": len(judged),
        "missed": sorted({t["target"] for t in judged if t["met"] is False}),
    }


def _auc(seeds: Sequence[Figures], length: str) -> Any:
    """By time alone: the sooner, the more like a hit."""
    hits, misses = (
        [-ms for each in seeds for ms in each["membership"][length][key]]
        for key in ("ms_hit", "ms_miss")
    )
    return separation(hits, misses, family=len(seeds[0]["membership"]))


def _fairness(modes: Mapping[str, Seeds]) -> dict[str, Any]:
    """Scenario -> policy -> figures; nothing where a scenario does not have one."""
    scenarios = list(next(iter(next(iter(modes.values())).values())))
    return {
        scenario: {
            policy: dict(_fair([figures[scenario] for figures in seeds.values()]))
            for policy, seeds in modes.items()
        }
        for scenario in scenarios
    }


def _fair(seeds: Sequence[Figures]) -> Iterator[tuple[str, Value]]:
    wanted = {
        "smallest_share": [each["smallest_share_backlogged"] for each in seeds],
        "p99_over_alone": [(each["victim"] or {}).get("p99_over_alone") for each in seeds],
        "throughput": [each["throughput"] for each in seeds],
        "hit_rate": [each["hit_rate"] for each in seeds],
    }
    for name, values in wanted.items():
        if known := [value for value in values if value is not None]:
            yield name, spread(known)


def _evictions(seeds: Seeds) -> dict[str, Value]:
    """Tree -> microseconds."""
    if not seeds:
        return {}
    names = next(iter(seeds.values()))["us"]
    return {name: spread([each["us"][name] for each in seeds.values()]) for name in names}
