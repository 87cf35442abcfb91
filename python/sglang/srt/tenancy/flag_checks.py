"""Refuse combinations of flags that must not start.

What the tenant cache does not cover is refused by name at start-up: it never runs
unprotected.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from typing import TYPE_CHECKING

from sglang.srt.arg_groups.overrides import ResolvedView, resolved_view
from sglang.srt.environ import envs
from sglang.srt.tenancy.flags import BACKEND, FAIR_POLICIES, TenantOptions, flag
from sglang.srt.tenancy.media.hosts import MediaHosts
from sglang.srt.tenancy.promotion_flags import check_promotion
from sglang.srt.tenancy.user_id import PROCESS_KEY

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

_FAIR_FLAGS = {
    "tenant_input_weight": FAIR_POLICIES,
    "tenant_cached_weight": FAIR_POLICIES,
    "tenant_output_weight": FAIR_POLICIES,
    "tenant_dlpm_quantum": ["dlpm"],
}

_LEAST_CACHE = 65_536  # bytes
_SHORTEST_TRIAL, _LONGEST_TRIAL = 0.05, 600.0  # seconds of CPU for one grammar

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def check(args: ServerArgs) -> None:
    """Validate the resolved arguments and select the tenant cache.

    Raises ValueError that names both flags of a bad pair and the way out.
    """
    if not args.enable_tenant_cache:
        _refuse_stray_flags(args)
        return
    _check_schedule(args)
    for clash in _clashes(resolved_view(args)):
        raise ValueError(f"--enable-tenant-cache does not work with {clash}")
    _check_numbers(args)
    if args.tenant_header and not _HEADER_NAME.fullmatch(args.tenant_header):
        raise ValueError(f"--tenant-header: {args.tenant_header!r} is not a header name")
    for path in args.tenant_user_routes or ():
        if not path.startswith("/"):
            raise ValueError(f"--tenant-user-routes: {path!r} is no path; it begins with a slash")
    if args.tenant_config or args.tenant_state:
        _check_config(args)
    _check_detector(args)
    check_promotion(args)
    _check_media(args)
    from sglang.srt.tenancy.user_id import require_process_key

    require_process_key(args.nnodes)
    args.radix_cache_backend = BACKEND


def _refuse_stray_flags(args: ServerArgs) -> None:
    for field in dataclasses.fields(TenantOptions):
        if getattr(args, field.name) != field.default:
            raise ValueError(f"{flag(field.name)} does nothing without --enable-tenant-cache")
    if args.schedule_policy in FAIR_POLICIES:
        raise ValueError(
            f"--schedule-policy {args.schedule_policy} needs --enable-tenant-cache: "
            "without it no request has a user"
        )


def _check_schedule(args: ServerArgs) -> None:
    policy = args.schedule_policy
    for field, policies in _FAIR_FLAGS.items():
        value = getattr(args, field)
        if policy not in policies and value != getattr(TenantOptions, field):
            wanted = " or ".join(policies)
            raise ValueError(f"{flag(field)} does nothing without --schedule-policy {wanted}")
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{flag(field)}: {value} is no number of 0 or more")
    if args.tenant_dlpm_quantum == 0:
        raise ValueError("--tenant-dlpm-quantum: 0 serves nobody; give a number above 0")
    if args.tenant_input_weight == args.tenant_output_weight == 0:
        raise ValueError(
            "--tenant-input-weight and --tenant-output-weight are both 0: then nothing is "
            "counted; give one of them a number above 0"
        )
    if policy in FAIR_POLICIES:
        for clash, applies in {
            "--enable-priority-scheduling: two policies cannot both choose who is next": (
                args.enable_priority_scheduling
            ),
            f"--pp-size {args.pp_size}: pipeline stages are untested": args.pp_size > 1,
        }.items():
            if applies:
                raise ValueError(f"--schedule-policy {policy} does not work with {clash}")


def _check_numbers(args: ServerArgs) -> None:
    least = {
        "tenant_public_users": 2,
        "tenant_epoch_requests": 1,
        "tenant_rdr_min_hits": 1,
        "tenant_quarantine_epochs": 0,
        "tenant_max_body_bytes": 1024,
        "tenant_body_timeout": 0.1,
        "tenant_max_connections": 1,
        "tenant_max_json_depth": 8,
        "tenant_max_prompts": 1,
        "tenant_max_samples": 1,
        "tenant_max_logprobs": 0,
        "tenant_max_stops": 0,
        "tenant_max_logit_bias": 0,
        "tenant_max_grammar_bytes": 0,
        "tenant_grammar_seconds": 0,
        "tenant_grammar_step_seconds": 0.001,
        "tenant_grammar_memory": 16,
        "tenant_max_media": 0,
        "tenant_max_media_bytes": 0,
        "tenant_max_media_pixels": 0,
        "tenant_media_timeout": 0.1,
        "tenant_response_cache": 0,
        "tenant_response_cache_ttl": 1,
    }
    for field, minimum in least.items():
        value = getattr(args, field)
        if not value >= minimum:
            raise ValueError(f"{flag(field)}: {value} is too small; give {minimum} or more")
    _check_trials(args)
    _check_idle_ttl(args)
    _check_response_cache(args)
    if not 0 <= args.tenant_rdr_threshold <= 1:
        raise ValueError(
            f"--tenant-rdr-threshold: {args.tenant_rdr_threshold} is no ratio; give 0 to 1 "
            "(0 never demotes)"
        )


def _check_trials(args: ServerArgs) -> None:
    for field in ("tenant_grammar_seconds", "tenant_grammar_step_seconds"):
        value = getattr(args, field)
        if not value <= _LONGEST_TRIAL:
            raise ValueError(
                f"{flag(field)}: {value} is too long; give at most {_LONGEST_TRIAL:g} seconds"
            )
    if 0 < args.tenant_grammar_seconds < _SHORTEST_TRIAL:
        raise ValueError(
            f"--tenant-grammar-seconds: {args.tenant_grammar_seconds} is too short for any "
            f"grammar; give {_SHORTEST_TRIAL:g} or more, or 0 to try none"
        )


def _check_response_cache(args: ServerArgs) -> None:
    size = "--tenant-response-cache"
    places = ("tenant_response_cache_file", "tenant_response_cache_redis")
    for field in (*places, "tenant_response_cache_share", "tenant_response_cache_ttl"):
        if not args.tenant_response_cache and getattr(args, field) != getattr(TenantOptions, field):
            raise ValueError(f"{flag(field)} does nothing without {size}; give it a size in bytes")
    if 0 < args.tenant_response_cache < _LEAST_CACHE:
        raise ValueError(
            f"{size}: {args.tenant_response_cache} bytes hold nothing; give {_LEAST_CACHE} or more"
        )
    if not 0 < args.tenant_response_cache_share <= 1:
        raise ValueError(
            f"--tenant-response-cache-share: {args.tenant_response_cache_share} is no share; give "
            "more than 0, at most 1"
        )
    for field in places:
        if getattr(args, field) and PROCESS_KEY not in os.environ:
            raise ValueError(
                f"{flag(field)}: names its users by {PROCESS_KEY}, which is not set; set it, and "
                "keep it, or nobody's answers are found again"
            )
    if all(getattr(args, field) for field in places):
        raise ValueError(
            f"{' and '.join(map(flag, places))}: answers are kept in one place; give one"
        )


def _check_idle_ttl(args: ServerArgs) -> None:
    ttl = args.tenant_idle_ttl
    if not ttl:
        return
    if not (math.isfinite(ttl) and ttl >= 1):
        raise ValueError(
            f"--tenant-idle-ttl: {args.tenant_idle_ttl} is no time; give 1 second or more, or 0 "
            "for never"
        )
    if args.tenant_mode == "shared":
        raise ValueError(
            "--tenant-idle-ttl does nothing in --tenant-mode shared: nothing there is anybody's "
            "own; use another --tenant-mode, or leave it out"
        )


def _check_detector(args: ServerArgs) -> None:
    for field in ("tenant_detector_model", "tenant_detector_judge"):
        if not getattr(args, field):
            continue
        if args.tenant_detector != "rules":
            raise ValueError(
                f"{flag(field)} reads what the rules leave, but --tenant-detector is "
                f"{args.tenant_detector}; use --tenant-detector rules"
            )
        if args.tenant_mode != "selective":
            raise ValueError(
                f"{flag(field)} does nothing in --tenant-mode {args.tenant_mode}; "
                "use --tenant-mode selective"
            )
    if args.tenant_detector_judge and args.skip_tokenizer_init:
        raise ValueError(
            "--tenant-detector-judge asks in text, which --skip-tokenizer-init leaves without a "
            "tokenizer; drop one of them"
        )
    if args.tenant_detector_model:
        from sglang.srt.tenancy.detect.model import check_folder

        check_folder(args.tenant_detector_model)


def _check_media(args: ServerArgs) -> None:
    which, hosts = args.tenant_remote_media, args.tenant_media_host or []
    if not math.isfinite(args.tenant_media_timeout):
        raise ValueError(
            f"--tenant-media-timeout: {args.tenant_media_timeout} is no time; give seconds"
        )
    if which == "off" and hosts:
        raise ValueError(
            "--tenant-media-host does nothing with --tenant-remote-media off; drop one of them"
        )
    if which == "listed" and not hosts:
        raise ValueError(
            "--tenant-remote-media listed needs --tenant-media-host; or use off, which fetches "
            "nothing"
        )
    try:
        MediaHosts.of(which, hosts)
    except ValueError as error:
        raise ValueError(f"--tenant-media-host: {error}") from None


def _check_config(args: ServerArgs) -> None:
    from sglang.srt.tenancy.config import TenantConfig

    config = TenantConfig.of(args)
    if config.has_keys and args.api_key:
        raise ValueError(
            "--api-key and --tenant-config with keys both say which keys are good; "
            "list the key in the file (operators' endpoints take --admin-api-key)"
        )
    if config.has_gateway and not args.tenant_header:
        raise ValueError("--tenant-config has a [gateway], but --tenant-header is not set")
    if config.public_prefixes and args.tenant_mode != "selective":
        raise ValueError(
            f"--tenant-config has [[public_prefixes]], which --tenant-mode {args.tenant_mode} "
            "has no use for; use --tenant-mode selective, or take them out"
        )
    if config.cache_shares and args.tenant_mode == "shared":
        raise ValueError(
            "--tenant-config has cache_share, which --tenant-mode shared has no use for: nothing "
            "there is anybody's own; use another --tenant-mode, or take it out"
        )
    if args.tokenizer_worker_num > 1:
        from sglang.srt.tenancy.sighup import forward_hangup

        forward_hangup()


def _clashes(args: ResolvedView) -> list[str]:
    """Return each reason, in words that follow 'does not work with'."""
    reasons = {
        "--disable-radix-cache: there is no cache to divide": args.disable_radix_cache,
        f"--radix-cache-backend {args.radix_cache_backend}: it has no owners": (
            args.radix_cache_backend not in (None, BACKEND)
        ),
        "--enable-lmcache: its tree has no owners": args.enable_lmcache,
        "--enable-flexkv: its tree has no owners": args.enable_flexkv,
        "SGLANG_EXPERIMENTAL_CPP_RADIX_TREE: that tree has no owners": (
            envs.SGLANG_EXPERIMENTAL_CPP_RADIX_TREE.get()
        ),
        "SGLANG_ENABLE_UNIFIED_RADIX_TREE: that tree has no owners": (
            envs.SGLANG_ENABLE_UNIFIED_RADIX_TREE.get()
        ),
        "--enable-session-radix-cache: it needs the unified tree": args.enable_session_radix_cache,
        "--enable-streaming-session: its sessions keep KV beside the tree, where no erasure or "
        "share reaches it": args.enable_streaming_session,
        "--speculative-algorithm: the draft model's cache has no owners": (
            args.speculative_algorithm is not None
        ),
        "--dllm-algorithm: diffusion models are untested": args.dllm_algorithm is not None,
        "--is-embedding: embedding requests carry no user": args.is_embedding,
        f"--disaggregation-mode {args.disaggregation_mode}: KV moves between servers unowned": (
            args.disaggregation_mode != "null"
        ),
        "--encoder-only: it has no prefix cache": args.encoder_only,
        "--use-ray: its front end carries no user": args.use_ray,
        "--grpc-port, --grpc-mode or --smg-grpc-mode: gRPC carries no user": (
            args.smg_grpc_mode or args.grpc_mode or args.grpc_port is not None
        ),
        "SGLANG_RUST_SERVER: the Rust front end carries no user": envs.SGLANG_RUST_SERVER.get(),
        "--hicache-write-policy write_back: what only the device has is divided by no share while "
        "it is written; use write_through or write_through_selective": (
            args.hicache_write_policy == "write_back"
        ),
        "--radix-eviction-policy mru: a touch may not make a leaf go sooner": (
            args.radix_eviction_policy == "mru"
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]
