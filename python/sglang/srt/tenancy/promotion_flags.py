"""Refuse flags of --tenant-promotion dp that could never promote, or that protect nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sglang.srt.tenancy.cache.core.vote_threshold import VoteThreshold, advantage_bound
from sglang.srt.tenancy.flags import TenantOptions, flag

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

_DP_FLAGS = (
    *("tenant_dp_epsilon", "tenant_dp_delta", "tenant_dp_votes"),
    *("tenant_dp_window", "tenant_dp_period"),
)
_NO_PROTECTION = 0.99  # an attacker whose guesses are told from wrong ones so well is not kept out


def check_promotion(args: ServerArgs) -> None:
    """Raises ValueError that names the flag, its value and the way out."""
    if args.tenant_promotion == "count":
        for field in _DP_FLAGS:
            if getattr(args, field) != getattr(TenantOptions, field):
                raise ValueError(f"{flag(field)} does nothing without --tenant-promotion dp")
        return
    for clash, applies in _clashes(args).items():
        if applies:
            raise ValueError(f"--tenant-promotion dp does not work with {clash}")
    _check_numbers(args)
    _check_protection(args)
    _check_threshold(args)


def _clashes(args: ServerArgs) -> dict[str, bool]:
    """Reasons, in words that follow 'does not work with', and whether each applies."""
    changed = [
        field
        for field in ("tenant_rdr_threshold", "tenant_rdr_min_hits", "tenant_quarantine_epochs")
        if getattr(args, field) not in (0, getattr(TenantOptions, field))
    ]
    return {
        f"--tenant-mode {args.tenant_mode}: nothing is promoted there; use --tenant-mode "
        "selective, or leave it out": args.tenant_mode != "selective",
        "--tenant-detector none: only registered prefixes are public; leave one of them out": (
            args.tenant_detector == "none"
        ),
        f"{', '.join(map(flag, changed))}: the probe monitor is off, as its counts are exact and "
        "a demotion tells them; leave it out": bool(changed),
        f"--pp-size {args.pp_size}: the stages would toss different coins; use --tp-size": (
            args.pp_size > 1
        ),
    }


def _check_numbers(args: ServerArgs) -> None:
    for field in ("tenant_dp_votes", "tenant_dp_window", "tenant_dp_period"):
        if not getattr(args, field) >= 1:
            raise ValueError(f"{flag(field)}: {getattr(args, field)} is too small; give 1 or more")
    epsilon, delta = args.tenant_dp_epsilon, args.tenant_dp_delta
    if not (math.isfinite(epsilon) and epsilon >= 0.01):
        raise ValueError(
            f"--tenant-dp-epsilon: {epsilon} could never promote; give a number from 0.01 to 5"
        )
    if not 1e-12 <= delta <= 0.01:
        raise ValueError(
            f"--tenant-dp-delta: {delta} is no small chance; give a number from 1e-12 to 0.01"
        )


def _check_protection(args: ServerArgs) -> None:
    bound = advantage_bound(args.tenant_dp_epsilon, args.tenant_dp_delta)
    if bound >= _NO_PROTECTION:
        raise ValueError(
            f"--tenant-dp-epsilon: {args.tenant_dp_epsilon:g} protects nothing: a right guess may "
            f"be told from a wrong one in {bound:.1%} of all cases; give 5 or less"
        )


def _check_threshold(args: ServerArgs) -> None:
    parts = args.tenant_dp_votes * max(1, args.dp_size)
    epsilon, delta = args.tenant_dp_epsilon / parts, args.tenant_dp_delta / parts
    threshold = VoteThreshold(epsilon, delta, args.tenant_public_users)
    if 2 * threshold.median > args.tenant_dp_window:
        raise ValueError(
            f"--tenant-dp-window: {args.tenant_dp_window} requests could hardly ever promote: a "
            f"prefix needs {threshold.median:.0f} votes in one window on average (each has epsilon "
            f"{epsilon:g}); give a longer window, a larger --tenant-dp-epsilon or fewer "
            "--tenant-dp-votes"
        )
