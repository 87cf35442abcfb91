"""Build the scheduling policy that a flag names, upstream's or ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import PrefillAdder, SchedulePolicy
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.schedule.dlpm import DeficitLongestPrefixMatch
from sglang.srt.tenancy.schedule.fair_policy import FairPolicy
from sglang.srt.tenancy.schedule.vtc import VirtualTokenCounter

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions


def policy_class(options: TenantOptions, name: str) -> Callable[..., SchedulePolicy]:
    """Return what builds the policy of this name, with upstream's arguments."""
    fair = {"vtc": VirtualTokenCounter, "dlpm": DeficitLongestPrefixMatch}
    if name not in fair:
        return SchedulePolicy
    return partial(fair[name], options=options, weights=TenantConfig.of(options).weights)


def requests_to_try(
    policy: SchedulePolicy, waiting: list[Req], adder: PrefillAdder
) -> Iterable[Req]:
    """Return the requests to try in this round, in order. Upstream's policies have sorted them."""
    return policy.requests_to_try(waiting, adder) if isinstance(policy, FairPolicy) else waiting
