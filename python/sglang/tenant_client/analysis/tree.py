"""The server's tree as ``GET /tenant/tree`` shows it: lengths and owners, no tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import Refused
from ..steps import Call, Reply, Steps, fault_of

_DEPTH, _NODES = 32, 2000  # the most that the server shows


@dataclass(eq=False)
class TreeNode:
    """Tokens from ``start`` to ``end`` of every prompt that leads here.

    ``owner``: a hash, None for what is public. ``hits``, ``users``: in the window.
    """

    start: int
    end: int
    owner: str | None
    hits: int
    users: int
    device: bool
    host: bool
    truncated: bool
    parent: TreeNode | None = None
    children: list[TreeNode] = field(default_factory=list)

    @property
    def path(self) -> list[TreeNode]:
        """The nodes from the root, which holds nothing and is left out, down to this one."""
        above = [] if self.parent is None else self.parent.path
        return above if self.parent is None else [*above, self]

    def walk(self) -> Iterator[TreeNode]:
        """Yield the node and all below it."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))

    @property
    def leaves(self) -> int:
        """How many ends there are below it, itself if nothing is."""
        return sum(1 for node in self.walk() if not node.children)


@dataclass(frozen=True)
class Trees:
    """``roots``: one of each data-parallel replica. ``page``: tokens."""

    mode: str
    page: int
    roots: list[TreeNode]

    @property
    def truncated(self) -> bool:
        """Whether there is more than was shown."""
        return any(node.truncated for root in self.roots for node in root.walk())


def fetch() -> Steps[Trees]:
    """Ask for the trees. Raises Refused where the server does not show them."""
    path = f"/tenant/tree?depth={_DEPTH}&nodes={_NODES}"
    reply: Reply = yield Call("GET", path, as_operator=True)
    if not reply.ok:
        raise Refused("GET /tenant/tree needs the admin key", reply.status, fault_of(reply))
    info: Reply = yield Call("GET", "/server_info", as_operator=True)
    page = info.content.get("page_size") if info.ok and isinstance(info.content, dict) else None
    roots = [_node(entry, 0, None) for entry in reply.content["replicas"]]
    return Trees(str(reply.content["mode"]), page if isinstance(page, int) else 1, roots)


def _node(entry: dict[str, Any], start: int, parent: TreeNode | None) -> TreeNode:
    node = TreeNode(
        start=start,
        end=start + entry["tokens"],
        owner=entry["owner"],
        hits=(entry["hit_cur"] or 0) + (entry["hit_pre"] or 0),
        users=(entry["u_cnt_l"] or 0) + (entry["u_pre"] or 0),
        device=entry["device"],
        host=entry["host"],
        truncated=entry["truncated"],
        parent=parent,
    )
    node.children = [_node(child, node.end, node) for child in entry["children"]]
    return node
