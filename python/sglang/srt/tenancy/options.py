"""The tenant flags, and the combinations that must not start.

What the tenant cache does not cover is refused by name at start-up: it never runs
unprotected.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import TYPE_CHECKING, Literal

from sglang.srt.arg_groups.arg_utils import A, Arg, add_cli_args_from_dataclass
from sglang.srt.arg_groups.overrides import ResolvedView, resolved_view
from sglang.srt.environ import envs

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

# The name under which upstream's registry of cache backends knows ours.
BACKEND = "tenant"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclasses.dataclass(kw_only=True)
class TenantOptions:
    """The part of ServerArgs that belongs to the fork."""

    enable_tenant_cache: A[
        bool,
        Arg(help="Give every cached prefix an owner. Without it the server is upstream's."),
    ] = False
    tenant_mode: A[
        Literal["shared", "isolated", "selective"],
        Arg(
            help="shared: every prefix serves everybody, as upstream. isolated: each user "
            "matches only their own. selective: what is harmless and shared becomes public."
        ),
    ] = "selective"
    tenant_config: A[
        str | None,
        Arg(help="TOML file of users, their API keys and weights. Reloaded on SIGHUP."),
    ] = None
    tenant_header: A[
        str | None,
        Arg(help="Header in which a gateway that has authenticated the user names them."),
    ] = None
    tenant_anonymous: A[
        Literal["isolate", "share", "reject"],
        Arg(
            help="Requests that name no user. isolate: nothing they compute is kept. share: "
            "they are one common user. reject: 401."
        ),
    ] = "isolate"
    tenant_public_users: A[
        int,
        Arg(
            help="selective: how many distinct users must hold the same harmless prefix within "
            "the window before it becomes public."
        ),
    ] = 3
    tenant_epoch_requests: A[
        int,
        Arg(help="Admitted requests to an epoch; the window is this epoch and the one before."),
    ] = 1024
    tenant_detector: A[
        Literal["none", "rules", "off-trust-all"],
        Arg(
            help="selective: who says what is harmless. rules: patterns for numbers, keys, names "
            "and the like that find nothing. none: nobody, only registered prefixes become public. "
            "off-trust-all: everything is taken for harmless; for benchmarks, and for prompts that "
            "nobody minds sharing."
        ),
    ] = "rules"
    tenant_detector_model: A[
        str | None,
        Arg(
            help="Folder of a token-classification checkpoint that reads each prompt after the "
            "rules; on the CPU, in the detector's process."
        ),
    ] = None
    tenant_detector_judge: A[
        bool,
        Arg(help="Ask the served model itself about what rules and model leave open."),
    ] = False
    tenant_rdr_threshold: A[
        float,
        Arg(
            help="selective: a public prefix with fewer distinct users per hit than this, over "
            "the window, is taken for the target of a probe and becomes private again."
        ),
    ] = 0.02
    tenant_rdr_min_hits: A[
        int, Arg(help="selective: hits in the window before --tenant-rdr-threshold is looked at.")
    ] = 256
    tenant_quarantine_epochs: A[
        int, Arg(help="selective: epochs for which a probed prefix cannot become public again.")
    ] = 64
    tenant_publish_private_events: A[
        bool,
        Arg(
            help="With --kv-events-config: publish events of private blocks too, under names "
            "that only this server can compute. Without it private blocks are not published."
        ),
    ] = False


FIELDS = [field.name for field in dataclasses.fields(TenantOptions)]


def upstream_fields(cls: type) -> list[str]:
    """The fields of ServerArgs that upstream registers itself."""
    return [f.name for f in dataclasses.fields(cls) if f.name not in FIELDS]


def add_tenant_args(parser: argparse.ArgumentParser) -> None:
    """All tenant flags, in one group of --help."""
    group = parser.add_argument_group("tenant cache")
    add_cli_args_from_dataclass(group, TenantOptions)


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def check(args: ServerArgs) -> None:
    """Validate the resolved arguments and select the tenant cache.

    Raises ValueError that names both flags of a bad pair and the way out.
    """
    if not args.enable_tenant_cache:
        _refuse_stray_flags(args)
        return
    for clash in _clashes(resolved_view(args)):
        raise ValueError(f"--enable-tenant-cache does not work with {clash}")
    _check_numbers(args)
    if args.tenant_header and not _HEADER_NAME.fullmatch(args.tenant_header):
        raise ValueError(f"--tenant-header: {args.tenant_header!r} is not a header name")
    if args.tenant_config:
        _check_config(args)
    _check_detector(args)
    # Before the other processes start: they inherit it.
    from sglang.srt.tenancy.user_id import process_key

    process_key()
    args.radix_cache_backend = BACKEND


def _refuse_stray_flags(args: ServerArgs) -> None:
    for field in dataclasses.fields(TenantOptions):
        if getattr(args, field.name) != field.default:
            raise ValueError(f"{flag(field.name)} does nothing without --enable-tenant-cache")


def _check_numbers(args: ServerArgs) -> None:
    least = {
        "tenant_public_users": 2,
        "tenant_epoch_requests": 1,
        "tenant_rdr_min_hits": 1,
        "tenant_quarantine_epochs": 0,
    }
    for field, minimum in least.items():
        value = getattr(args, field)
        if value < minimum:
            raise ValueError(f"{flag(field)}: {value} is too small; give {minimum} or more")
    if not 0 <= args.tenant_rdr_threshold <= 1:
        raise ValueError(
            f"--tenant-rdr-threshold: {args.tenant_rdr_threshold} is no ratio; give 0 to 1 "
            "(0 never demotes)"
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


def _check_config(args: ServerArgs) -> None:
    from sglang.srt.tenancy.config import TenantConfig

    config = TenantConfig.load(args.tenant_config)
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
    if args.tokenizer_worker_num > 1:
        from sglang.srt.tenancy.reload import forward_hangup

        forward_hangup()


def _clashes(args: ResolvedView) -> list[str]:
    """Each reason, in words that follow 'does not work with'."""
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
        "--radix-eviction-policy mru: a leaf's turn may only come later": (
            args.radix_eviction_policy == "mru"
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]
