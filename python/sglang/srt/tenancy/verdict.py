"""A detector's verdict on its way into the tree, on the schedulers' ordinary channel.

So every rank meets it between the same two requests. Nobody waits for an answer, and a verdict
on a prompt that the tree does not hold changes nothing: with data parallelism every replica
gets it, whichever of them served the request.
"""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

from sglang.srt.managers.io_struct import BaseReq, hook_custom_types
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.extra_keys import qualified
from sglang.srt.tenancy.ownership import namespace


class TenantVerdict(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """Of ``owner``'s ``tokens`` (typecode "q") the first ``harmless`` hold nothing sensitive;
    ``sensitive``: index of the first that does. ``extra_key`` and ``lora_id`` as the request had
    them when it left for the scheduler."""

    owner: str
    tokens: array  # type: ignore[type-arg]  # msgspec evaluates it, and 3.11 cannot
    harmless: int
    sensitive: int | None = None
    extra_key: str | None = None
    lora_id: str | None = None


hook_custom_types(TenantVerdict)


def trimmed(verdict: TenantVerdict, page_size: int) -> TenantVerdict | None:
    """The verdict without the tokens that it says nothing of; None where it says nothing."""
    pages = [verdict.harmless // page_size]
    if verdict.sensitive is not None:
        pages.append(verdict.sensitive // page_size + 1)
    if not max(pages):
        return None
    verdict.tokens = verdict.tokens[: max(pages) * page_size]
    verdict.harmless = min(verdict.harmless, len(verdict.tokens))
    return verdict


def install() -> None:
    """Have upstream's dispatcher hand verdicts to the tree: its hook registry is applied in
    each scheduler process before the scheduler is made."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler.init_request_dispatcher",
        _listen,
        HookType.AFTER,
    )


def _listen(_: None, scheduler: Any) -> None:
    from sglang.utils import TypeBasedDispatcher

    if scheduler.server_args.enable_tenant_cache:

        def take(verdict: TenantVerdict) -> None:
            key = RadixKey(verdict.tokens, namespace(verdict.owner, _extra_key(scheduler, verdict)))
            scheduler.tree_cache.judge(key, verdict.harmless, verdict.sensitive)

        scheduler._request_dispatcher += TypeBasedDispatcher([(TenantVerdict, take)])


def _extra_key(scheduler: Any, verdict: TenantVerdict) -> str | None:
    """As ``Req`` and the scheduler make it for a request; the expert size is known only here."""
    request = SimpleNamespace(extra_key=qualified(verdict.lora_id, verdict.extra_key))
    scheduler._maybe_namespace_elastic_radix_cache(request)
    return request.extra_key
