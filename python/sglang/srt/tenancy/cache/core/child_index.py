"""Index the children of a node: by key, and for public nodes the private ones by first page."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.owner_index import OwnerIndex


class ChildIndex:
    """``owners``: hears of each node that gets or leaves a parent."""

    def __init__(self, page_size: int, owners: OwnerIndex):
        self._page_size = page_size
        self._owners = owners

    def child_key(self, node: Node) -> Any:
        """Return a node's key among its parent's children, as the engine has it."""
        tokens, extra_key = node.key.token_ids, node.key.extra_key
        first = tokens[0] if self._page_size == 1 else tuple(tokens[: self._page_size])
        return first if extra_key is None else (extra_key, first)

    def attach(self, node: Node, parent: Node) -> None:
        key = self.child_key(node)
        self._owners.add(node, parent, parent.children.get(key))
        parent.children[key] = node
        if node.owner and not parent.owner:
            stats = parent.ensure_stats()
            if stats.candidates is None:
                stats.candidates = {}
            stats.candidates.setdefault(public_key(key), {})[node.owner] = node

    def detach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        key = self.child_key(node)
        found = parent.children.pop(key, None)
        assert found is node, f"node {node.id} is no child of its parent"
        self._owners.remove(node)
        if node.owner and not parent.owner:
            owners = self.candidates(node, parent)
            del owners[node.owner]
            if not owners:
                assert parent.stats is not None
                assert parent.stats.candidates is not None
                del parent.stats.candidates[public_key(key)]

    def candidates(self, node: Node, parent: Node) -> dict[str, Node]:
        """Find all private children of a public parent with this child's first page, by owner."""
        assert parent.stats is not None
        assert parent.stats.candidates is not None
        return parent.stats.candidates[public_key(self.child_key(node))]


def public_key(child_key: Any) -> Any:
    """Return the key that a public node with the same first page has."""
    namespace, first = child_key
    plain = namespace.extra_key
    return first if plain is None else (plain, first)
