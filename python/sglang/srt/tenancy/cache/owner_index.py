"""Where an owner's nodes are, without a walk over the tree."""

from __future__ import annotations

from sglang.srt.tenancy.cache.node import Node, walk

Nodes = dict[Node, None]  # a set whose order is that of insertion, equal on all ranks


class OwnerIndex:
    """For each owner: the tops of their private subtrees, and the public nodes they had first.

    ``OwnedTree._attach`` and ``_detach`` keep it. What hangs below a private node has the same
    owner, so the tops, which are children of public nodes, stand for all of an owner's nodes.
    """

    def __init__(self) -> None:
        self._tops: dict[str, Nodes] = {}
        self._first_owned: dict[str, Nodes] = {}

    def tops(self, owner: str) -> list[Node]:
        """The private nodes of an owner whose parent is public, in the order they came."""
        return list(self._tops.get(owner, ()))

    def first_owned(self, owner: str) -> list[Node]:
        """The public nodes that would go back to an owner, in the order they became public."""
        return list(self._first_owned.get(owner, ()))

    def add(self, node: Node, parent: Node, replaced: Node | None) -> None:
        """A node became the child of a parent, in the place of ``replaced`` if that was one of
        the same owner and first page."""
        if not node.owner:
            if node.crowd is not None and node.crowd.first_owner:
                self._first_owned.setdefault(node.crowd.first_owner, {})[node] = None
            return
        if replaced is not None and replaced is not node:
            _discard(self._tops, node.owner, replaced)
        if parent.owner:
            _discard(self._tops, node.owner, node)
        else:
            self._tops.setdefault(node.owner, {})[node] = None

    def remove(self, node: Node) -> None:
        """A node leaves its parent."""
        if node.owner:
            _discard(self._tops, node.owner, node)
        elif node.crowd is not None:
            _discard(self._first_owned, node.crowd.first_owner, node)

    def disown(self, owner: str) -> None:
        """Have the public nodes that an owner had first go back to nobody."""
        for node in self._first_owned.pop(owner, ()):
            assert node.crowd is not None
            node.crowd.first_owner = ""

    def check(self, root: Node) -> None:
        """Raise AssertionError where the index is not what a walk finds."""
        tops: dict[str, set[Node]] = {}
        first_owned: dict[str, set[Node]] = {}
        for node in walk(root):
            assert node.parent is not None
            if node.owner and not node.parent.owner:
                tops.setdefault(node.owner, set()).add(node)
            elif not node.owner and node.crowd is not None and node.crowd.first_owner:
                first_owned.setdefault(node.crowd.first_owner, set()).add(node)
        assert tops == {owner: set(nodes) for owner, nodes in self._tops.items()}
        assert first_owned == {owner: set(nodes) for owner, nodes in self._first_owned.items()}


def _discard(index: dict[str, Nodes], owner: str, node: Node) -> None:
    nodes = index.get(owner)
    if nodes is not None:
        nodes.pop(node, None)
        if not nodes:
            del index[owner]
