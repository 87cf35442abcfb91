"""What operators may see of a tree: totals and shape, never tokens, text or plain user ids."""

from __future__ import annotations

from collections import deque
from typing import Any

from sglang.srt.tenancy.cache.core.node import PUBLIC
from sglang.srt.tenancy.cache.core.owner_sizes import OwnerSizes
from sglang.srt.tenancy.namespace import Namespace
from sglang.srt.tenancy.user_id import digest

# Per node, as the tree keeps them: a window that nobody touched since is not rolled.
COUNTERS = ("epoch", "hit_cur", "u_cnt_l", "hit_pre", "u_pre")


def stats(cache: Any, owners: int) -> dict[str, Any]:
    """Totals of one tree. Sizes are in tokens; ``owners``: how many of the largest are listed.

    ``host`` is None where there is no host tier.
    """
    clock = getattr(cache, "clock", None)
    host_order = getattr(cache, "host_order", None)
    return {
        "epoch": getattr(clock, "epoch", None),
        "admitted": getattr(clock, "admitted", None),
        "device": {
            "capacity": int(cache.token_to_kv_pool_allocator.size),
            "evictable": int(cache.evictable_size()),
            "protected": int(cache.protected_size()),
            **_occupancy(cache.device_order, owners),
        },
        "host": None
        if host_order is None
        else {
            "capacity": int(cache.token_to_kv_pool_host.size),
            **_occupancy(host_order, owners),
        },
        "counts": {name: int(count) for name, count in getattr(cache, "counts", {}).items()},
    }


def _occupancy(order: Any, owners: int) -> dict[str, Any]:
    sizes: OwnerSizes = order.sizes
    return {
        "public": sizes.get(PUBLIC, 0),
        "private": sizes.private,
        "owners": sizes.owners(),
        "largest_owners": [
            {"owner": digest(owner), "tokens": size} | _allowed(order.quota, owner)
            for owner, size in sizes.largest(owners)
        ],
    }


def _allowed(quota: Any, owner: str) -> dict[str, int]:
    """What the owner's ``cache_share`` is in tokens, where they have one."""
    tokens = None if quota is None else quota.of(owner)
    return {} if tokens is None else {"allowed": tokens}


def tree(cache: Any, depth: int, nodes: int) -> dict[str, Any]:
    """The root and what is below it, as nested dictionaries.

    At most ``nodes`` nodes beside the root and ``depth`` levels below it, breadth first: a
    budget that ends leaves out the deepest. ``truncated`` marks a node whose ``children``
    are not all there.
    """
    root = _node(cache.root_node)
    pending = deque([(cache.root_node, root, 0)])
    shown = 0
    while pending:
        node, entry, level = pending.popleft()
        if level < depth:
            for child in node.children.values():
                if shown == nodes:
                    break
                shown += 1
                below = _node(child)
                entry["children"].append(below)
                pending.append((child, below, level + 1))
        entry["truncated"] = len(entry["children"]) < entry["child_count"]
    return root


def _node(node: Any) -> dict[str, Any]:
    owner = _owner_of(node)
    return {
        "scope": "public" if owner == PUBLIC else "private",
        "owner": None if owner == PUBLIC else digest(owner),
        "tokens": len(node.key),
        **{name: getattr(node, name, None) for name in COUNTERS},
        "device": bool(len(node.key)) and not node.evicted,
        "host": bool(node.backuped),
        "lock_ref": int(node.lock_ref),
        "child_count": len(node.children),
        "truncated": False,
        "children": [],
    }


def _owner_of(node: Any) -> str:
    namespace = node.key.extra_key
    return namespace.owner if isinstance(namespace, Namespace) else PUBLIC
