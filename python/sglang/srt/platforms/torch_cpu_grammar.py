"""Structured output on a CPU: xgrammar's own mask in place of Triton's."""

from __future__ import annotations

from typing import Any

import torch
import xgrammar

from sglang.srt.constrained import xgrammar_backend


def install() -> None:
    """Let grammars allocate and apply their token masks in plain memory."""
    # SGLang pins the mask for a copy to the device, and refuses to apply it on
    # "cpu"; either ends the server at the first request that has a grammar.
    backend: Any = xgrammar_backend
    backend._allocate_token_bitmask = _allocate
    for owner in (backend.XGrammarGrammar, backend.XGrammarGrammarBackend):
        owner.apply_vocab_mask = staticmethod(_apply)


def _allocate(vocab_size: int, batch_size: int) -> torch.Tensor:
    return xgrammar.allocate_token_bitmask(batch_size, vocab_size)


def _apply(logits: torch.Tensor, vocab_mask: torch.Tensor) -> None:
    xgrammar.apply_token_bitmask_inplace(logits, vocab_mask)
