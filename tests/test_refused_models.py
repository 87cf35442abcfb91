"""Models whose cache has no owners do not start: the message names what they have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import PretrainedConfig

from sglang.srt.mem_cache.registry import TreeCacheBuildContext
from sglang.srt.tenancy.registry import refuse

DENSE, MINIMAX = "LlamaForCausalLM", "MiniMaxM3SparseForCausalLM"


def context(architecture: str = DENSE, **changes: Any) -> TreeCacheBuildContext:
    """What upstream tells of a model of this architecture."""
    model = SimpleNamespace(
        is_generation=changes.pop("is_generation", True),
        hf_config=PretrainedConfig(architectures=[architecture]),
    )
    upstream: dict[str, Any] = {
        "server_args": None,
        "params": SimpleNamespace(is_eagle=changes.pop("is_eagle", False)),
        "is_hybrid_swa": False,
        "is_hybrid_ssm": False,
        "enable_hierarchical_cache": True,
        "disable_radix_cache": False,
        "effective_chunked_prefill_size": None,
        "tp_worker": None,
        "model_config": model,
        "tp_size": 1,
        "tp_rank": 0,
        "tp_group": None,
    }
    return TreeCacheBuildContext(**(upstream | changes))


REFUSED: dict[str, dict[str, Any]] = {
    "sliding-window attention": {"is_hybrid_swa": True},
    "state-space": {"is_hybrid_ssm": True},
    r"sparse attention \(DSA\)": {"is_dsa": True},
    r"sparse attention \(MiniMax\)": {"architecture": MINIMAX},
    "EAGLE": {"is_eagle": True},
    "a disabled radix cache": {"disable_radix_cache": True},
    "embedding": {"is_generation": False},
}


@pytest.mark.parametrize("named", REFUSED)
def test_models_are_refused_by_name(named: str) -> None:
    with pytest.raises(ValueError, match=f"does not support {named}") as told:
        refuse(context(**REFUSED[named]))
    assert "start without it" in str(told.value)


def test_full_attention_is_taken() -> None:
    refuse(context())
