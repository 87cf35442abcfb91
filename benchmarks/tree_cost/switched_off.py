"""Without ``--enable-tenant-cache`` there is nothing to time: the cache is upstream's class."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.trees import Tree

import sglang.srt.tenancy.registry  # noqa: F401  registers ours, as the scheduler's import does
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.registry import TreeCacheBuildContext, create_tree_cache
from sglang.srt.tenancy.flags import BACKEND

_ROOT = Path(__file__).resolve().parents[2]


def what_is_built() -> dict[str, Any]:
    """Which classes the scheduler gets from upstream's registry with the flag off, and on."""
    off, on = _build(ours=False), _build(ours=True)
    modules = sorted({c.__module__ for c in off.__mro__ if c.__module__.startswith("sglang.")})
    ours = [module for module in modules if module.startswith("sglang.srt.tenancy")]
    touched = _patched_files()
    patched = [module for module in modules if _file(module) in touched]
    return {
        "class": _name(off),
        "modules": modules,
        "modules_of_ours": ours,
        "modules_patched": patched,
        "is_upstreams": off is HiRadixCache and not ours and not patched,
        "class_when_on": _name(on),
        "why_it_is_not_timed": "it is the same code, of files that no patch touches",
    }


def _patched_files() -> dict[str, str]:
    base = json.loads((_ROOT / "upstream.json").read_text())["base"]
    files: dict[str, str] = json.loads((_ROOT / "patches" / base / "upstream.lock").read_text())
    return files


def _build(*, ours: bool) -> type:
    tree = Tree(ours=ours, device_tokens=64, host_ratio=2.0)
    args = tree.args
    args.radix_cache_backend = BACKEND if ours else None  # as options.check() leaves it
    worker: Any = SimpleNamespace(register_hicache_layer_transfer_counter=lambda counter: None)
    model: Any = SimpleNamespace(is_generation=True, hf_config=SimpleNamespace(architectures=[]))
    cache = create_tree_cache(
        TreeCacheBuildContext(
            server_args=args,
            params=tree.params,
            is_hybrid_swa=False,
            is_hybrid_ssm=False,
            enable_hierarchical_cache=True,
            disable_radix_cache=False,
            effective_chunked_prefill_size=None,
            tp_worker=worker,
            model_config=model,
            tp_size=1,
            tp_rank=0,
            tp_group=None,
        )
    )
    return type(cache)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"
