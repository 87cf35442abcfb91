"""Show operators what they may see of a tree: totals and shape.

Never tokens, text or plain user ids.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import asdict
from itertools import islice
from typing import Any

from sglang.srt.tenancy.cache.core.cache import OwnedCache
from sglang.srt.tenancy.cache.core.elsewhere import HashedPrefix
from sglang.srt.tenancy.cache.core.node import EARNED, PUBLIC, Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.owner_sizes import OwnerSizes
from sglang.srt.tenancy.cache.core.quota import Quota
from sglang.srt.tenancy.usage import UsageCounter
from sglang.srt.tenancy.user_id import digest

# Per node, as the tree keeps them: a window that nobody touched since is not rolled.
COUNTERS = ("epoch", "hit_cur", "u_cnt_l", "hit_pre", "u_pre")


def stats(cache: OwnedCache, owners: int) -> dict[str, Any]:
    """Sum up one tree. Sizes are in tokens; ``owners``: how many of the largest are listed.

    ``host`` is None where there is no host tier, ``votes`` where nobody votes.
    """
    return {
        "epoch": cache.clock.epoch,
        "admitted": cache.clock.admitted,
        "device": {
            "capacity": int(cache.device.order.capacity),
            "evictable": cache.device.evictable,
            "protected": cache.protected_size(),
            **_occupancy(cache.device.order, owners),
        },
        "host": None
        if cache.host is None
        else {
            "capacity": int(cache.host.order.capacity),
            **_occupancy(cache.host.order, owners),
        },
        "votes": cache.sharing.votes(),
        "counts": {name: int(count) for name, count in cache.counts.items()},
    }


def _occupancy(order: EvictionOrder, owners: int) -> dict[str, Any]:
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


def _allowed(quota: Quota | None, owner: str) -> dict[str, int]:
    """Return what the owner's ``cache_share`` is in tokens, where they have one."""
    tokens = None if quota is None else quota.of(owner)
    return {} if tokens is None else {"allowed": tokens}


def users(cache: OwnedCache, usage: UsageCounter) -> list[dict[str, Any]]:
    """List what each shown user took and holds, and last what all others did, under None.

    With plain ids: for this server's own processes.
    """
    tiers = {"device": cache.device, "host": cache.host}
    sizes = {name: tier.order.sizes for name, tier in tiers.items() if tier is not None}
    rest = {name: held.private for name, held in sizes.items()}
    entries = []
    for user, took in usage.shown():
        held = rest if user is None else {name: of.get(user, 0) for name, of in sizes.items()}
        if user is not None:
            rest = {name: tokens - held[name] for name, tokens in rest.items()}
        entries.append(
            {
                "user": user,
                "requests": took.requests,
                "output": took.output,
                "prompt": [list(part) for part in took.by_scope() if part[-1]],
                "limited": dict(took.limited),
                "held": held,
            }
        )
    return entries


def tree(cache: OwnedCache, depth: int, nodes: int) -> dict[str, Any]:
    """Show the root and what is below it, as nested dictionaries.

    At most ``nodes`` nodes beside the root and ``depth`` levels below it, breadth first: a
    budget that ends leaves out the deepest. ``truncated`` marks a node whose ``children``
    are not all there.
    """
    root = _node(cache.tree.root)
    pending = deque([(cache.tree.root, root, 0)])
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


def public_hashes(cache: OwnedCache, most: int) -> dict[str, list[HashedPrefix]]:
    """Return, as keyed hashes, what became public here because enough users hold it, and what was
    made private again here: ``most`` of each, of the public ones those nearest to the root."""
    memory = cache.sharing.memory
    public: list[HashedPrefix] = []
    told: set[int] = set()
    for last in reversed(_earned_nodes(cache, most)):  # with the deepest go all above it
        if last.id in told:
            continue
        tokens, ends = _path_to(last)
        extra_key = last.key.extra_key
        end = memory.blocklist.allowed(extra_key, tokens, 0, len(tokens), cache.clock.epoch)
        new = [(node, at) for node, at in ends if node.state & EARNED and node.id not in told]
        told.update(node.id for node, _ in new)
        lengths = [at for _, at in new if at <= end]
        public += memory.elsewhere.hashes(extra_key, tokens, lengths)
    return {"public": public[:most], "demoted": list(memory.elsewhere.demoted_here)[-most:]}


def _earned_nodes(cache: OwnedCache, most: int) -> list[Node]:
    """Find public nodes that need nobody's word, breadth first."""
    found: list[Node] = []
    pending = deque([cache.tree.root])
    while pending:
        for child in pending.popleft().children.values():
            if child.owner:
                continue
            pending.append(child)
            if child.state & EARNED:
                found.append(child)
                if len(found) == most:
                    return found
    return found


def _path_to(last: Node) -> tuple[array[int], list[tuple[Node, int]]]:
    """Return the tokens down to a node, and where each node on the way ends."""
    path = []
    node = last
    while node.parent is not None:
        path.append(node)
        node = node.parent
    tokens: array[int] = array("q")
    ends = []
    for node in reversed(path):
        tokens += node.key.token_ids
        ends.append((node, len(tokens)))
    return tokens, ends


# What ``rows`` tells of a node, in this order. ``parent``: index of a row before, -1 for the root's
# children; ``owner``: index of an owner's hash, -1 for what is public; ``age``: touches of the tree
# since its last use; ``tiers``: 1 for the device, 2 for the host, 3 for both; ``users``: distinct
# ones in the window.
COLUMNS = (
    *("id", "parent", "owner", "tokens", "tiers", "locks"),
    *("age", "epoch", "hits", "users", "children"),
)
_DEPTH = 64  # levels


def rows(cache: OwnedCache, nodes: int) -> dict[str, Any]:
    """Show the upper part of the tree, breadth first, at most ``nodes`` nodes: one flat row for
    each, which costs the scheduler a fraction of ``tree``."""
    owners: dict[str, int] = {}
    found: list[list[int]] = []
    root, ticks = cache.tree.root, cache.clock.ticks
    level = [(-1, root)]
    for _ in range(_DEPTH):
        below = []
        for parent, node in level:
            for child in _likeliest(node, nodes - len(found)):
                if child.children:
                    below.append((len(found), child))
                found.append(_row(child, parent, owners, ticks))
        level = below
        if not level or len(found) == nodes:
            break
    return {
        "columns": COLUMNS,
        "owners": [digest(owner) for owner in owners],
        "nodes": found,
        "root_children": len(root.children),
    }


def _likeliest(node: Node, most: int) -> list[Node]:
    """Choose the children to be shown: where not all can be, the public ones first, then those that
    came last."""
    children = node.children.values()
    if len(children) <= most:
        return list(children)
    public = list(islice((child for child in children if not child.owner), most))
    private = (child for child in reversed(children) if child.owner)
    return public + list(islice(private, most - len(public)))


def _row(node: Node, parent: int, owners: dict[str, int], ticks: int) -> list[int]:
    owner = owners.setdefault(node.owner, len(owners)) if node.owner else -1
    return [
        node.id,
        parent,
        owner,
        len(node.key),
        (node.value is not None) + 2 * (node.host_value is not None),
        int(node.lock_ref),
        ticks - node.last_access_time,
        node.epoch,
        node.hit_cur + node.hit_pre,
        node.u_cnt_l + node.u_pre,
        len(node.children),
    ]


def changes(cache: OwnedCache, seen: int) -> list[dict[str, Any]]:
    """List what happened in the tree after change number ``seen``, as far as it is kept."""
    return [asdict(change) for change in cache.changes.since(seen)]


def held(cache: OwnedCache, number: int) -> list[dict[str, Any]]:
    """List the owners who hold most of any tier: tokens, and those that they may hold, by tier."""
    tiers = {"device": cache.device, "host": cache.host}
    orders = {name: tier.order for name, tier in tiers.items() if tier is not None}
    owners: dict[str, None] = {}
    for order in orders.values():
        owners.update((owner, None) for owner, _ in order.sizes.largest(number))
    return [
        {
            "owner": digest(owner),
            **{
                name: {"tokens": order.sizes.get(owner, 0), **_allowed(order.quota, owner)}
                for name, order in orders.items()
            },
        }
        for owner in owners
    ]


def _node(node: Node) -> dict[str, Any]:
    owner = node.owner
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
