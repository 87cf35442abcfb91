"""Make a secret that all ranks with the same tree share, new at each start."""

from __future__ import annotations

import secrets
from typing import Any

import torch.distributed


def shared_secret(group: Any) -> bytes:
    """Return 32 bytes that the ranks of a process group share. ``group``: None has one rank.

    Not made from the process key: replicas and restarts share that, and a secret that was used
    before would decide the same again.
    """
    made = [secrets.token_bytes(32)]
    if group is not None and torch.distributed.get_world_size(group) > 1:
        torch.distributed.broadcast_object_list(made, group=group, group_src=0)
    return made[0]
