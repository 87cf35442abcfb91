"""Build the tenant cache for the scheduler, through upstream's registry of cache backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang.srt.configs.model_config import is_minimax_sparse
from sglang.srt.mem_cache.registry import (
    TreeCacheBuildContext,
    get_radix_cache_factory,
    register_radix_cache_backend,
)
from sglang.srt.tenancy.cache.adapters.hiradix import scheduler_hooks
from sglang.srt.tenancy.cache.adapters.hiradix.zeroize import zeroize_freed_slots
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.control import scheduler_handler
from sglang.srt.tenancy.flags import BACKEND
from sglang.srt.tenancy.grammar import scheduler_cache as grammar_cache
from sglang.srt.tenancy.grammar.log import hide_grammars
from sglang.srt.tenancy.metrics import scheduler as scheduler_metrics
from sglang.srt.tenancy.namespace import adopt
from sglang.srt.tenancy.schedule import faulty_requests, preemption, prompt_room, sessions

if TYPE_CHECKING:
    from sglang.srt.mem_cache.base_prefix_cache import BasePrefixCache
    from sglang.srt.tenancy.cache.adapters.hiradix.tenant_cache import TenantCache

__all__ = ["adopt", "build", "refuse"]


def build(context: TreeCacheBuildContext) -> BasePrefixCache:
    """Build the tenant cache for this model. Raises ValueError for trees that have no owners."""
    refuse(context)
    hide_grammars()
    grammar_cache.bound_cache()
    # As it stands when the server starts: every rank has the same.
    config = TenantConfig.of(context.server_args)
    cache = _build(context, config)
    config.cache_shares.check(cache.token_to_kv_pool_allocator.size, cache.page_size)
    if context.server_args.tenant_zeroize:
        cache.zeroizer = zeroize_freed_slots(cache)
    return cache


def _build(context: TreeCacheBuildContext, config: TenantConfig) -> TenantCache:
    division = config.weights, config.cache_shares
    if context.enable_hierarchical_cache:
        from sglang.srt.tenancy.cache.adapters.hiradix.hiradix import TenantHiRadixCache

        cache = TenantHiRadixCache(context.params, context.server_args, *division)
        context.tp_worker.register_hicache_layer_transfer_counter(
            cache.cache_controller.layer_done_counter
        )
        return cache
    from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache

    return TenantRadixCache(context.params, context.server_args, *division)


def refuse(context: TreeCacheBuildContext) -> None:
    kinds = {
        "sliding-window attention": context.is_hybrid_swa,
        "state-space (Mamba) layers": context.is_hybrid_ssm,
        "sparse attention (DSA)": context.is_dsa,
        "sparse attention (MiniMax)": is_minimax_sparse(context.model_config.hf_config),
        "EAGLE's bigram keys": context.params.is_eagle,
        "a disabled radix cache": context.disable_radix_cache,
        "embedding and reward models (their requests carry no user)": (
            not context.model_config.is_generation
        ),
    }
    for kind, present in kinds.items():
        if present:
            raise ValueError(
                f"--enable-tenant-cache does not support {kind} yet; start without it, "
                "or serve a generative model with full attention"
            )


if get_radix_cache_factory(BACKEND) is None:
    register_radix_cache_backend(BACKEND, build)
    scheduler_handler.install()
    scheduler_hooks.install()
    faulty_requests.install()
    prompt_room.install()
    grammar_cache.install()
    preemption.install()
    sessions.install()
    scheduler_metrics.install()
