"""Copies between device, host and storage, of nodes that may be cut, merged or gone meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from sglang.srt.tenancy.cache.core.interfaces import NoTransfers, TierName
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node


class DeviceOnly(NoTransfers):
    """``cache``: a tenant cache without a host tier."""

    def __init__(self, cache: Any):
        self._cache = cache

    def record_hit(self, node: Node, chunked: bool) -> None:
        self._cache._inc_hit_count(node, chunked)


class HostTransfers:
    """``cache``: the hierarchical tenant cache, whose transfers are upstream's."""

    def __init__(self, cache: Any):
        self._cache = cache
        self._until_written: dict[int, list[Node]] = {}  # write -> nodes it keeps on the device

    def under_way(self) -> Iterator[Hashable]:
        cache = self._cache
        yield from (("write", ack) for ack in cache.ongoing_write_through)
        yield from (("load", node) for node in cache.ongoing_load_back)
        yield from (("backup", operation) for operation in cache.ongoing_backup)

    def record_hit(self, node: Node, chunked: bool) -> None:
        self._cache._inc_hit_count(node, chunked)

    def split(self, upper: Node, lower: Node) -> None:
        self._cache._replace_pending_write_through_node(lower, [upper, lower])

    def move_host_copy(self, node: Node, successor: Node) -> None:
        ack = node.write_through_pending_id
        if ack is None:
            return
        # The copy is still being written: the device must not forget the tokens before.
        self._cache._replace_pending_write_through_node(node, [successor])
        node.write_through_pending_id = None
        self._cache.core.lock(successor)
        self._until_written.setdefault(ack, []).append(successor)

    def finish_write(self, ack_id: int, *, release_lock: bool) -> None:
        """Take notice that a copy to the host has arrived.

        What was one node when the copy was started may be several by now, of several owners, and
        some of them gone.
        """
        cache = self._cache
        lock_node, _, nodes = cache.ongoing_write_through.pop(ack_id)
        for node in nodes:
            if node.write_through_pending_id == ack_id:
                node.write_through_pending_id = None
            if node.state & LOGICALLY_FREED:
                continue
            cache.events.stored(node, TierName.HOST)
            if cache.enable_storage:
                cache.write_backup_storage(node)
        if release_lock:
            cache.core.unlock(lock_node)
        for node in self._until_written.pop(ack_id, ()):
            cache.core.unlock(node)
