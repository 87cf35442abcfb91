"""A real cache that takes requests one by one and notes what its probe monitor looks at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from fair_service.device import Device
from fair_service.engine import Engine
from fair_service.record import Ask

from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, REGISTERED, Node
from sglang.srt.tenancy.flags import TenantOptions

EPOCH = TenantOptions.tenant_epoch_requests
PLENTY = 98_304  # tokens: nothing of these small prompts is evicted


class Pair(NamedTuple):
    """The two thresholds. A public node with at least ``min_hits`` in the window and fewer
    users per hit than ``threshold`` is demoted."""

    threshold: float
    min_hits: int


OFF = Pair(0.0, 1)
DEFAULT = Pair(TenantOptions.tenant_rdr_threshold, TenantOptions.tenant_rdr_min_hits)


class Sight(NamedTuple):
    """One look at a node. ``moment``: requests admitted so far. The rest is of the window."""

    moment: int
    hits: int
    users: int


class Watched(TenantRadixCache):
    def __init__(self, *args: Any, **kwargs: Any):
        self.seen: dict[int, list[Sight]] = defaultdict(list)
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        super().reset()
        tree, demoter = self.core.tree, self.core.sharing.demoter
        split, demote_probed = tree.split, demoter.demote_probed

        def watched_split(child: Node, tokens: int) -> Node:
            upper = split(child, tokens)
            if child.id in self.seen:
                self.seen[upper.id] = list(self.seen[child.id])
            return upper

        def watched_demote_probed(last: Node) -> None:
            self._look(last)
            demote_probed(last)

        tree.split, demoter.demote_probed = watched_split, watched_demote_probed  # type: ignore[method-assign]

    def _look(self, last: Node) -> None:
        node = last
        while node.parent is not None:
            if not node.owner and not node.state & (REGISTERED | LOGICALLY_FREED):
                hits, users = node.hit_cur + node.hit_pre, node.u_cnt_l + node.u_pre
                self.seen[node.id].append(Sight(self.core.clock.admitted, hits, users))
            node = node.parent


class Server(Engine):
    """One cache in selective mode, where everything counts as harmless; no time passes.

    ``epoch``: admitted requests to an epoch; ``memory``: tokens.
    """

    kind_of_cache = Watched
    cache: Watched

    def __init__(self, pair: Pair, *, epoch: int = EPOCH, memory: int = PLENTY):
        torch.set_num_threads(1)  # nothing here is large
        super().__init__(
            "fcfs",
            Device(memory=memory, running=1),
            tenant_mode="selective",
            tenant_detector="off-trust-all",
            tenant_epoch_requests=epoch,
            tenant_rdr_threshold=pair.threshold,
            tenant_rdr_min_hits=pair.min_hits,
        )

    def ask(self, user: str, prompt: Sequence[int]) -> int:
        """Serve one request from its arrival to its end. Returns the tokens it found cached."""
        req = self.receive(Ask(self.now, user, prompt, 1))
        self.waiting_queue.clear()
        req.init_next_round_input(self.cache)
        self.cache.inc_lock_ref(req.last_node)
        found = len(req.prefix_indices)
        req.set_extend_range(found, len(prompt))
        self._prefill([req])
        return found

    @property
    def admitted(self) -> int:
        return self.cache.core.clock.admitted

    @property
    def demotions(self) -> int:
        return int(self.cache.core.counts.get("demotions", 0))
