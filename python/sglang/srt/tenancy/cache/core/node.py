"""A node of the tree: upstream's attributes, and to whom its tokens belong."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.namespace import Namespace
from sglang.srt.tenancy.user_id import PUBLIC as PUBLIC

# Bits of ``Node.state``.
QUEUED_DEVICE = 1  # an entry in the eviction order of the tier stands for it
QUEUED_HOST = 2
LOGICALLY_FREED = 4  # out of the tree; keeps its slots until its last lock goes
NO_PROMOTE = 8  # written under cache_scope "private": never a reason to make anything public
REGISTERED = 16  # public by an operator's word: never demoted
SCANNED_CLEAN = 64  # the detector has seen all of it and found nothing sensitive
EARNED = 128  # public because enough users hold it, whatever an operator said or takes back
JOINED = 32  # made of several nodes: evicted from its end, as they would have been
VOTED = 256  # its owner has voted, in this voting window, for what ends here

# ``Node.asked_again`` of a node that no later request came for: epochs that are in no window.
UNCOUNTED = -3  # the request it came with is not counted yet
NEVER = -2


class SharingStats:
    """What only a public node has, made when it is first needed."""

    __slots__ = ("candidates", "first_owner", "u_pre", "users")

    def __init__(self) -> None:
        self.first_owner = PUBLIC  # to whom it goes back when it ceases to be public
        self.users: set[str] = set()  # of the current epoch: no more than an epoch's requests
        self.u_pre = 0
        # Public key of a first page -> owner -> their private child that begins with it.
        self.candidates: dict[Any, dict[str, Node]] | None = None

    def copy_to(self, other: SharingStats) -> None:
        """Give another node the same counts and first owner."""
        other.first_owner, other.u_pre = self.first_owner, self.u_pre
        other.users = set(self.users)

    def roll(self, *, one_epoch: bool) -> None:
        self.u_pre = len(self.users) if one_epoch else 0
        self.users.clear()


class Node:
    """Takes the place of upstream's ``TreeNode``, with its attributes and their meanings.

    Not a subclass: with slots for everything a node is smaller than upstream's, although it
    knows its owner.
    """

    __slots__ = (
        "asked_again",
        "children",
        "creation_time",
        "device_children",
        "device_held",
        "epoch",
        "hash_value",
        "hit_count",
        "hit_cur",
        "hit_pre",
        "host_children",
        "host_held",
        "host_ref_counter",
        "host_value",
        "id",
        "key",
        "last_access_time",
        "lock_ref",
        "owner",
        "parent",
        "priority",
        "state",
        "stats",
        "value",
        "write_through_pending_id",
    )

    def __init__(self, key: Any, parent: Node | None, moment: int, epoch: int, priority: int):
        namespace = key.extra_key
        self.owner: str = namespace.owner if type(namespace) is Namespace else PUBLIC
        self.stats: SharingStats | None = None
        self.key = key
        self.parent = parent
        self.children: dict[Any, Node] = {}
        self.value: Any = None  # device slots (``Slots``), one a token; None: not there
        self.host_value: Any = None  # host slots
        self.lock_ref = 0
        self.host_ref_counter = 0
        self.priority = priority
        self.creation_time = self.last_access_time = moment
        self.hit_count = 0  # upstream's, for its write policy and LFU
        self.hash_value: list[str] | None = None
        self.write_through_pending_id: int | None = None
        # The window: hits by admitted requests, this epoch and the one before.
        self.epoch = epoch
        self.hit_cur = 0
        self.hit_pre = 0
        self.asked_again = UNCOUNTED  # epoch in which a later request last came for it
        # What the sizes count for it, on each tier: tokens, and children that are there.
        self.device_held = 0
        self.host_held = 0
        self.device_children = 0
        self.host_children = 0
        self.state = 0
        self.id = moment  # no two nodes of a tree are made at the same one

    @property
    def is_public(self) -> bool:
        return not self.owner

    @property
    def owner_id(self) -> str:
        return self.owner

    @property
    def u_cnt_l(self) -> int:
        """Distinct users of the current epoch."""
        if self.owner:
            return min(1, self.hit_cur)
        return len(self.stats.users) if self.stats else 0

    @property
    def u_pre(self) -> int:
        """Distinct users of the epoch before."""
        if self.owner:
            return min(1, self.hit_pre)
        return self.stats.u_pre if self.stats else 0

    def ensure_stats(self) -> SharingStats:
        if self.stats is None:
            self.stats = SharingStats()
        return self.stats

    @property
    def evicted(self) -> bool:
        return self.value is None

    @property
    def backuped(self) -> bool:
        return self.host_value is not None

    def protect_host(self) -> None:
        self.host_ref_counter += 1

    def release_host(self) -> None:
        if self.host_ref_counter <= 0:
            raise RuntimeError(f"node {self.id}: host released more often than protected")
        self.host_ref_counter -= 1

    def get_last_hash_value(self) -> str | None:
        return self.hash_value[-1] if self.hash_value else None

    def get_prefix_hash_values(self, node: Node | None) -> list[str]:
        """The page hashes from the root to ``node``, which is this node's parent."""
        parts: list[list[str]] = []
        while node is not None and node.hash_value is not None:
            parts.append(node.hash_value)
            node = node.parent
        return [value for part in reversed(parts) for value in part]

    def __lt__(self, other: Node) -> bool:
        return self.last_access_time < other.last_access_time


def walk(root: Node) -> list[Node]:
    """All nodes below the root."""
    found: list[Node] = []
    stack = [root]
    while stack:
        children = stack.pop().children.values()
        found.extend(children)
        stack.extend(children)
    return found


def private_path(last: Node) -> list[Node]:
    """List the private nodes from below the last public one down to ``last``."""
    path = []
    node = last
    while node.owner:
        path.append(node)
        assert node.parent is not None
        node = node.parent
    path.reverse()
    return path
