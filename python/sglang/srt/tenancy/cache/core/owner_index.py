"""Where an owner's nodes are, without a walk over the tree."""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.node import Node, walk

Nodes = dict[Node, None]  # a set whose order is that of insertion, equal on all ranks


class NodesByOwner:
    """Sets of nodes. Most owners have one node, which stands there without a set around it."""

    def __init__(self) -> None:
        self._of: dict[str, Node | Nodes] = {}

    def get(self, owner: str) -> list[Node]:
        """In the order they came."""
        found = self._of.get(owner)
        if found is None:
            return []
        return [found] if isinstance(found, Node) else list(found)

    def add(self, owner: str, node: Node) -> None:
        found = self._of.setdefault(owner, node)
        if isinstance(found, dict):
            found[node] = None
        elif found is not node:
            self._of[owner] = {found: None, node: None}

    def discard(self, owner: str, node: Node) -> None:
        found = self._of.get(owner)
        if isinstance(found, dict):
            found.pop(node, None)
            if not found:
                del self._of[owner]
        elif found is node:
            del self._of[owner]

    def pop(self, owner: str) -> list[Node]:
        found = self.get(owner)
        self._of.pop(owner, None)
        return found

    def sets(self) -> dict[str, set[Node]]:
        return {owner: set(self.get(owner)) for owner in self._of}


class OwnerIndex:
    """For each owner: the tops of their private subtrees, and the public nodes they had first.

    ``ChildIndex.attach`` and ``detach`` keep it. What is below a private node has the same owner,
    so the tops, which are children of public nodes, stand for all of an owner's nodes.
    """

    def __init__(self) -> None:
        self._tops = NodesByOwner()
        self._first_owned = NodesByOwner()

    def tops(self, owner: str) -> list[Node]:
        """The private nodes of an owner whose parent is public, in the order they came."""
        return self._tops.get(owner)

    def first_owned(self, owner: str) -> list[Node]:
        """The public nodes that would go back to an owner, in the order they became public."""
        return self._first_owned.get(owner)

    def add(self, node: Node, parent: Node, replaced: Node | None) -> None:
        """A node became the child of a parent, in the place of ``replaced`` if that was one of
        the same owner and first page."""
        if not node.owner:
            if node.stats is not None and node.stats.first_owner:
                self._first_owned.add(node.stats.first_owner, node)
            return
        if replaced is not None and replaced is not node:
            self._tops.discard(node.owner, replaced)
        if parent.owner:
            self._tops.discard(node.owner, node)
        else:
            self._tops.add(node.owner, node)

    def remove(self, node: Node) -> None:
        """A node leaves its parent."""
        if node.owner:
            self._tops.discard(node.owner, node)
        elif node.stats is not None:
            self._first_owned.discard(node.stats.first_owner, node)

    def disown(self, owner: str) -> None:
        """Have the public nodes that an owner had first go back to nobody."""
        for node in self._first_owned.pop(owner):
            assert node.stats is not None
            node.stats.first_owner = ""

    def check(self, root: Node) -> None:
        """Raise AssertionError where the index is not what a walk finds."""
        tops: dict[str, set[Node]] = {}
        first_owned: dict[str, set[Node]] = {}
        for node in walk(root):
            assert node.parent is not None
            if node.owner and not node.parent.owner:
                tops.setdefault(node.owner, set()).add(node)
            elif not node.owner and node.stats is not None and node.stats.first_owner:
                first_owned.setdefault(node.stats.first_owner, set()).add(node)
        assert tops == self._tops.sets()
        assert first_owned == self._first_owned.sets()
