"""The analysis as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..screen import plain
from ..session_file import load
from ..sync_client import Client
from .findings import NOT_FOUND, PUBLIC, Findings, Row, analyse
from .tree import TreeNode, Trees

_MOST_ROWS = 20


def show(client: Client, files: Sequence[Path], console: Console, picture: Path | None) -> None:
    """Analyse and print. Raises Refused, BadArgument, OSError.

    ``files``: sessions that were saved, a file for each user; without any, the tree alone.
    """
    findings = client.transport.run(analyse([load(file) for file in files]))
    if files:
        console.print(sessions_table(findings))
        console.print(Text(summary(findings)), soft_wrap=True)
        for fault in findings.faults:
            console.print(Text(plain(f"left out: {fault}"), style="red"), soft_wrap=True)
    else:
        console.print(tree_table(findings.trees))
    if findings.trees.truncated:
        console.print("The tree has more nodes than the server shows: not all could be looked for.")
    if picture is not None:
        from .picture import draw

        draw(findings, picture)
        console.print(Text(f"picture: {picture}"), soft_wrap=True)


def sessions_table(findings: Findings) -> Table:
    """Return what sessions have in common, most saved first."""
    table = _table("tokens", "sessions", "in the tree", "tiers", "hits", "users", "saves")
    shared = [row for row in findings.rows if len(row.names) > 1]
    for row in sorted(shared, key=lambda row: -row.saves)[:_MOST_ROWS]:
        known = row.held != NOT_FOUND
        table.add_row(
            f"{row.start} to {row.end}",
            Text(plain(", ".join(row.names))),
            _where(row),
            row.tiers,
            str(row.hits) if known else "",
            str(row.users) if known else "",
            str(row.saves) if known else "unknown",
        )
    return table


def _where(row: Row) -> str:
    return f"{row.held}{'' if row.sure else ' (others fit, too)'}"


def summary(findings: Findings) -> str:
    """Say in a line what sharing saves."""
    without = findings.held + findings.saved
    share = f" ({findings.saved / without:.0%})" if without else ""
    return (
        f"{len(findings.names)} sessions: {findings.held} tokens held, {without} if nothing were "
        f"shared; saved {findings.saved}{share}."
    )


def tree_table(trees: Trees) -> Table:
    """Return the parts of the tree that save most: below which several prompts go on."""
    table = _table("tokens", "prompts below", "in the tree", "hits", "users", "saves")
    for node in shared_nodes(trees)[:_MOST_ROWS]:
        table.add_row(
            f"{node.start} to {node.end}",
            str(node.leaves),
            PUBLIC if node.owner is None else f"private to {node.owner}",
            str(node.hits),
            str(node.users),
            str(spared(node)),
        )
    return table


def shared_nodes(trees: Trees) -> list[TreeNode]:
    """Return the nodes that several prompts have in common, most saved first."""
    nodes = [node for root in trees.roots for node in root.walk() if node.parent is not None]
    return sorted((node for node in nodes if spared(node)), key=lambda node: -spared(node))


def spared(node: TreeNode) -> int:
    """Return how many more tokens there would be, if each prompt below had a copy."""
    return (node.end - node.start) * (node.leaves - 1)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
