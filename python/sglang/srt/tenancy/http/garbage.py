"""Spare users the pauses in which the garbage collector walks what start-up made."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang.srt.managers.tokenizer_manager import TokenizerManager


async def freeze(manager: TokenizerManager) -> None:
    """Leave all objects of now out of later collections, in every process of the server.

    A full collection stops the HTTP process for 0.44 s on a CPU core, and every user's stream
    with it, when some other user's requests make enough objects: nearly all of the time goes to
    modules and classes that live as long as the process. Upstream does this when an operator asks
    for ``/freeze_gc``.
    """
    gc.collect()  # what is garbage now would be kept
    await manager.freeze_gc()
