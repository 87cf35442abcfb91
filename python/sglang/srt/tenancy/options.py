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
    if args.tenant_mode == "selective":
        raise ValueError(
            "--tenant-mode selective is not there yet; use --tenant-mode isolated or shared"
        )
    for clash in _clashes(resolved_view(args)):
        raise ValueError(f"--enable-tenant-cache does not work with {clash}")
    if args.tenant_header and not _HEADER_NAME.fullmatch(args.tenant_header):
        raise ValueError(f"--tenant-header: {args.tenant_header!r} is not a header name")
    if args.tenant_config:
        _check_config(args)
    # Before the other processes start: they inherit it.
    from sglang.srt.tenancy.user_id import process_key

    process_key()
    args.radix_cache_backend = BACKEND


def _refuse_stray_flags(args: ServerArgs) -> None:
    for field in dataclasses.fields(TenantOptions):
        if getattr(args, field.name) != field.default:
            raise ValueError(f"{flag(field.name)} does nothing without --enable-tenant-cache")


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
    isolated = args.tenant_mode == "isolated"
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
        "--hicache-storage-backend in --tenant-mode isolated: its keys carry no owner": (
            isolated and args.hicache_storage_backend is not None
        ),
        "--kv-events-config in --tenant-mode isolated: events would publish private prefixes": (
            isolated and args.kv_events_config is not None
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]
