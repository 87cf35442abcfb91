"""The engines' figures as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.table import aligned, markdown

from engine_speed.engine import HF

HEAD = (
    "engine",
    "first token p50, ms",
    "p99, ms",
    "tokens/s",
    "total, s",
    "times as fast as generate",
    "processor, s",
    "cached",
    "same answers",
)

Workloads = Mapping[str, Mapping[str, Any]]


def as_text(workloads: Workloads) -> str:
    parts = (f"{name}\n{aligned(HEAD, _rows(found))}\n" for name, found in workloads.items())
    return "\n".join(parts)


def as_markdown(workloads: Workloads) -> str:
    lines = ["# Engines compared", "", "Made by `make bench-engines`."]
    lines += ["What was measured, and how: [docs/levers.md](../../docs/levers.md).", ""]
    for name, found in workloads.items():
        about = (
            f"{found['requests']} requests, {found['prompt_tokens']:,} tokens of prompts, "
            f"{found['output_tokens']} of answers, {found['rounds']} rounds."
        )
        lines += [f"## {name}", "", about, "", *markdown(HEAD, _rows(found)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, engine in found["engines"].items():
        same = engine["agreement"]
        yield (
            name,
            _with_interval(engine["ttft_p50"]),
            _with_interval(engine["ttft_p99"]),
            _with_interval(engine["tokens_per_second"]),
            _with_interval(engine["seconds"], ".2f"),
            "" if name == HF else _with_interval(engine["faster_than"][HF], ".2f"),
            _with_interval(engine["processor_seconds"], ".2f"),
            "" if engine["cached_share"] is None else f"{engine['cached_share']:.0%}",
            f"{same['equal']} of {same['answers']}",
        )


def _with_interval(value: Mapping[str, float], form: str = ",.0f") -> str:
    return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
