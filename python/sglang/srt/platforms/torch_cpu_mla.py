"""Multi-head latent attention (DeepSeek) on a CPU."""

from __future__ import annotations

from typing import Any

import torch

from sglang.srt.layers.rotary_embedding import factory
from sglang.srt.models.deepseek_common.attention_backend_handler import AttentionBackendRegistry
from sglang.srt.models.deepseek_common.attention_forward_methods.forward_methods import (
    AttnForwardMethod,
)

_yarn_rope = factory.get_rope_cpu


def install() -> None:
    """Choose the form of attention, and a rotary embedding, that run here."""
    AttentionBackendRegistry.register("torch_native", _choose_absorbed)
    # Upstream's CPU path knows YaRN alone, and asserts it of every model.
    patched: Any = factory
    patched.get_rope_cpu = _any_rope


def _choose_absorbed(_attention: object, _batch: object) -> AttnForwardMethod:
    # The expanded form, which prefill takes elsewhere, keeps its keys out of
    # the pool; but the pool is where the PyTorch backend reads them.
    return AttnForwardMethod.MLA


def _any_rope(
    head_size: int,
    rotary_dim: int,
    max_position: int,
    base: int,
    is_neox_style: bool = True,
    rope_scaling: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    partial_rotary_factor: float = 1.0,
    device: str | None = None,
) -> torch.nn.Module:
    plain = (head_size, rotary_dim, max_position, base, is_neox_style, rope_scaling, dtype)
    if rope_scaling is not None and rope_scaling["rope_type"] == "deepseek_yarn":
        return _yarn_rope(*plain, partial_rotary_factor, device)
    return factory.get_rope(*plain, partial_rotary_factor)
