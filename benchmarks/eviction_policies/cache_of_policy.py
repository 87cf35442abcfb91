"""A real hierarchical cache under one eviction policy, which takes requests one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from caches.one_request import Found, request, serve
from support.trees import Tree

DEVICE, HOST = 8_192, 16_384  # tokens
EPOCH = 1_024  # admitted requests


class PolicyCache:
    """``upstream``: upstream's own cache, in which all users share all and the oldest leaf goes.
    ``order``: makes the order of each tier, from the arguments of the tree's own."""

    def __init__(
        self,
        *,
        upstream: bool = False,
        weights: Mapping[str, float] | None = None,
        order: Callable[..., Any] | None = None,
        device: int = DEVICE,
        host: int = HOST,
        epoch: int = EPOCH,
    ):
        torch.set_num_threads(1)  # nothing here is large
        options: dict[str, Any] = {} if upstream else {"tenant_epoch_requests": epoch}
        self.tree = Tree(
            ours=not upstream,
            device_tokens=device,
            host_ratio=host / device,
            weights=weights,
            context=device,
            **options,
        )
        self.cache: Any = self.tree.cache
        if order is not None:
            self.cache.new_order = order
            self.cache.reset()

    def ask(self, user: str, prompt: Sequence[int]) -> Found:
        return serve(self.tree, request(self.tree, user, prompt))
