"""The trees that are compared: upstream's, and ours in its modes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from caches import one_request
from support.trees import Tree
from tqdm import tqdm

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams
from sglang.srt.tenancy.flags import FIELDS
from tree_cost.traces import LEAF, LONG, SEED, SYSTEM, Prompt, Shape, Turn, leaf

_SLACK = 32 * LONG  # tokens of each pool that the filled tree leaves free
# Nobody's word is asked for what becomes public: promotion and merging are to be paid for.
_OPTIONS: Mapping[str, Any] = {"tenant_detector": "off-trust-all"}


@dataclass(frozen=True)
class Kind:
    """``mode``: None is upstream's tree. It gets no salts: its own sharing, at its fastest.
    ``flags``: tenant flags besides."""

    name: str
    mode: str | None
    flags: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ours(self) -> bool:
        return self.mode is not None

    def owner(self, user: int) -> str | None:
        """Who owns a user's prefixes: in shared mode nobody does, as in upstream's tree."""
        return f"u{user}" if self.mode in ("isolated", "selective") else None


UPSTREAM = Kind("upstream", None)
SHARED = Kind("shared", "shared")
ISOLATED = Kind("isolated", "isolated")
SELECTIVE = Kind("selective", "selective")
# Who counts users, and who counts votes. Nothing becomes public, so that both find the same;
# windows are short, so that some end while it is timed.
_NEVER = {"tenant_public_users": 1_000_000}
_VOTES = {"tenant_promotion": "dp", "tenant_dp_window": 256, "tenant_dp_period": 4}
COUNTS = Kind("selective, count", "selective", _NEVER)
VOTES = Kind("selective, dp", "selective", {**_NEVER, **_VOTES})
OURS = {kind.name: kind for kind in (SHARED, ISOLATED, SELECTIVE)}


class Subject:
    """One tree, filled to a shape, in pools that just hold it."""

    def __init__(
        self,
        kind: Kind,
        shape: Shape,
        *,
        write_policy: str = "write_through_selective",
        context: int = 2048,
        device_tokens: int | None = None,
        host_ratio: float = 1.1,
        device: str = "cpu",
    ):
        """``device_tokens``: of its pool, where it is not to hold just the shape."""
        self.kind, self.shape = kind, shape
        self.tree = Tree(
            ours=kind.ours,
            device_tokens=device_tokens or shape.tokens() + _SLACK,
            host_ratio=host_ratio,
            write_policy=write_policy,
            mode=kind.mode or "selective",
            context=context,
            device=device,
            **{name: value for name, value in {**_OPTIONS, **kind.flags}.items() if name in FIELDS},
        )
        self.cache = self.tree.cache
        self.cached_tokens = 0  # that requests found
        self._leaves_made = 0
        self._rng = random.Random(SEED)
        self._spare: Any = None

    def fill(self) -> None:
        # All slots at once: the pool copies its free list, as long as it is here, at each free.
        slots = self.tree.allocator.alloc(self.shape.tokens())
        nothing = torch.zeros(SYSTEM, dtype=torch.int64, device=slots.device)
        at = 0
        for number in tqdm(
            range(self.shape.leaves), desc=self.kind.name, leave=False, mininterval=0.5
        ):
            user, tokens = self.fresh_leaf()
            known = SYSTEM if number >= self.shape.users else 0  # the user's system prompt
            end = at + len(tokens) - known
            key = self.tree.key(tokens, self.kind.owner(user))
            value = torch.cat((nothing[:known], slots[at:end]))
            found = self.cache.insert(InsertParams(key=key, value=value)).prefix_len
            assert found == known, f"{found} tokens of leaf {number} were there, not {known}"
            at = end
        self.use_some_again(self.shape.leaves)
        self.tree.settle()

    def insert_leaf(self) -> None:
        self.insert(self.fresh_leaf())

    def fresh_leaf(self) -> Prompt:
        self._leaves_made += 1
        return leaf(self._leaves_made - 1, self.shape.users)

    def use_some_again(self, inserted: int) -> None:
        """As in service: for every five leaves that come, an old one is used again."""
        for _ in range(inserted // 5):
            newest = self._leaves_made - 1
            number = self._rng.randint(max(0, newest - self.shape.leaves), newest)
            self.match(leaf(number, self.shape.users))

    def insert(self, prompt: Prompt) -> None:
        if self.tree.insert(prompt.tokens, self.kind.owner(prompt.user)) is None:
            raise RuntimeError(f"{self.kind.name}: {len(prompt.tokens)} tokens do not fit")

    def match(self, prompt: Prompt) -> int:
        """Tokens of the prompt that are on the device."""
        return self.tree.match(prompt.tokens, self.kind.owner(prompt.user))[0]

    def request(self, turn: Turn) -> Req:
        return one_request.request(self.tree, f"u{turn.user}", turn.tokens)

    def serve(self, req: Req, answer: list[int]) -> int:
        """Serve a request. Returns the tokens it found."""
        found = sum(one_request.serve(self.tree, req, answer))
        self.cached_tokens += found
        return found

    def trim(self) -> None:
        """Evict, all at once, about as many leaves as the tree has grown beyond its shape."""
        surplus = len(self.cache.evictable_leaves) - self.shape.leaves
        if surplus > 0:
            self.cache.evict(EvictParams(num_tokens=surplus * LEAF))

    def fill_pool(self, margin: int = 0) -> None:
        """Take what is free, but for a margin, out of the pool: memory is short from now on.

        The free list must be short where evictions are timed: the pool copies it each time.
        """
        free = self.tree.allocator.available_size() - margin
        if free > 0:
            self._spare = self.tree.allocator.alloc(free)

    def release_pool(self) -> None:
        if self._spare is not None:
            self.tree.allocator.free(self._spare)
            self._spare = None
