"""Show what the replicas answered, to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .orders import Order, Row
from .replicas import Answer


def as_json(answers: Sequence[Answer], *, done: bool) -> str:
    """Return one object: whether all is done, and each replica's answer in full."""
    replicas = [
        {
            "url": answer.url,
            "done": answer.done,
            "status": answer.status,
            "answer": answer.content,
            "fault": answer.fault,
        }
        for answer in answers
    ]
    return json.dumps({"done": done, "replicas": replicas}, indent=2)


def as_table(order: Order, answers: Sequence[Answer]) -> str:
    """Return a line for each row of each answer, and one for each fault."""
    lines: list[tuple[str, Row | str]] = []
    for answer in answers:
        if answer.fault is not None:
            lines.append((answer.url, answer.fault))
        elif answer.status == 404:
            lines.append((answer.url, "was not there"))
        else:
            rows = order.show(answer.content)
            lines += [(answer.url, row) for row in rows] or [(answer.url, "none")]
    columns = list(
        dict.fromkeys(name for _, row in lines if not isinstance(row, str) for name in row)
    )
    table = [["replica", *columns]] if columns else []
    for url, row in lines:
        told = [row] if isinstance(row, str) else [_cell(row.get(name)) for name in columns]
        table.append([url, *told])
    return _aligned(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def _aligned(table: list[list[str]]) -> str:
    """Pad all cells but the last of each line; a line of one long text widens no column."""
    number = max(len(line) for line in table)
    whole = [line for line in table if len(line) == number]
    widths = [max(len(line[0]) for line in table)]
    widths += [max(len(line[at]) for line in whole) for at in range(1, number)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in table
    )
