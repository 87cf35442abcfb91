"""The analysis as a picture: from left to right the tokens, a line for each session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from .findings import NOT_FOUND, PRIVATE, PUBLIC, Findings
from .tree import TreeNode

_COLOURS = {PUBLIC: "#3b6fb6", PRIVATE: "#e08a3c", NOT_FOUND: "#c9c9c9"}
_MOST_LINES = 60
_NARROW = 0.04  # of the width: too little for a number


@dataclass(frozen=True)
class _Block:
    """Tokens from ``start`` to ``end``, over ``lines`` lines from ``top`` on."""

    start: int
    end: int
    top: int
    lines: int
    held: str


def draw(findings: Findings, file: Path) -> None:
    """Write the picture, a PNG: of the sessions, or where there are none of the tree."""
    order = _order(findings)
    blocks = list(_of_sessions(findings, order) if order else _of_tree(findings))
    lines = max((block.top + block.lines for block in blocks), default=1)
    figure = Figure(figsize=(9, 1.4 + 0.32 * min(lines, _MOST_LINES)), layout="constrained")
    axes = figure.subplots()
    width = max((block.end for block in blocks), default=1)
    for block in blocks:
        _add(axes, block, width)
    axes.set_xlim(0, width)
    axes.set_ylim(min(lines, _MOST_LINES), 0)
    axes.set_xlabel("tokens")
    axes.set_yticks([at + 0.5 for at in range(len(order))], list(order))
    axes.set_title(_title(findings))
    shown = [Patch(color=colour, label=held) for held, colour in _COLOURS.items()]
    figure.legend(handles=shown, loc="outside lower right", ncols=len(shown), frameon=False)
    figure.savefig(file, format="png", dpi=120)


def _title(findings: Findings) -> str:
    if not findings.names:
        return "What prompts have in common in the server's tree"
    return f"{findings.held} tokens held for {len(findings.names)} sessions, {findings.saved} saved"


def _add(axes: Axes, block: _Block, width: int) -> None:
    tokens = block.end - block.start
    box = Rectangle((block.start, block.top), tokens, block.lines)
    box.set(facecolor=_COLOURS[block.held], edgecolor="white", linewidth=1.5)
    axes.add_patch(box)
    if tokens > _NARROW * width:
        middle = (block.start + tokens / 2, block.top + block.lines / 2)
        axes.annotate(str(tokens), middle, ha="center", va="center", color="white", fontsize=8)


def _order(findings: Findings) -> dict[str, int]:
    """Number the sessions so that those which have most in common are neighbours."""
    deepest = {name: at for at, row in enumerate(findings.rows) for name in row.names}
    order = sorted(deepest, key=lambda name: (findings.names[name], deepest[name]))
    return {name: at for at, name in enumerate(order)}


def _of_sessions(findings: Findings, order: dict[str, int]) -> Iterator[_Block]:
    for row in findings.rows:
        lines = sorted(order[name] for name in row.names)
        top = lines[0]
        for at, after in zip(lines, [*lines[1:], -1], strict=True):
            if after != at + 1:
                yield _Block(row.start, row.end, top, at - top + 1, row.held)
                top = after


def _of_tree(findings: Findings) -> Iterator[_Block]:
    pending: list[tuple[TreeNode, int]] = []
    top = 0
    for root in findings.trees.roots:
        pending.append((root, top))
        top += root.leaves
    while pending:
        node, top = pending.pop()
        for child in node.children:
            held = PUBLIC if child.owner is None else PRIVATE
            lines = child.leaves
            yield _Block(child.start, child.end, top, lines, held)
            pending.append((child, top))
            top += lines
