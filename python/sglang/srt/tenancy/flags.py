"""The tenant flags: fields of ServerArgs, and their help."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from sglang.srt.arg_groups.arg_utils import NS, A, Arg, add_cli_args_from_dataclass

if TYPE_CHECKING:
    from sglang.srt.tenancy.config import TenantConfig

# The name under which upstream's registry of cache backends knows ours.
BACKEND = "tenant"

# What --schedule-policy takes besides upstream's own.
FAIR_POLICIES = ["vtc", "dlpm"]


class _OfOneProcess:
    """Keeps the loaded --tenant-config beside the arguments: see TenantConfig.of().

    A slot, so that no dump of the arguments shows it. It stays in its process: one that starts
    later reads the file as it is then.
    """

    __slots__ = ("_config",)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def loaded_config(self) -> TenantConfig | None:
        return getattr(self, "_config", None)

    def keep_config(self, config: TenantConfig) -> None:
        # Not by assignment: resolved arguments refuse that.
        object.__setattr__(self, "_config", config)


@dataclasses.dataclass(kw_only=True)
class TenantOptions(_OfOneProcess):
    """The part of ServerArgs that belongs to the fork.

    ``NS``: upstream's namespace, under which a resolved value is published to its processes.
    """

    enable_tenant_cache: A[
        bool,
        Arg(help="Give every cached prefix an owner. Without it the server is upstream's."),
        NS("memory"),
    ] = False
    tenant_mode: A[
        Literal["shared", "isolated", "selective"],
        Arg(
            help="shared: every prefix serves everybody, as upstream. isolated: each user "
            "matches only their own. selective: what is harmless and shared becomes public."
        ),
        NS("memory"),
    ] = "selective"
    tenant_config: A[
        str | None,
        Arg(help="TOML file of users, their API keys and weights. Reloaded on SIGHUP."),
        NS("serving"),
    ] = None
    tenant_state: A[
        str | None,
        Arg(
            help="SQLite file that keeps, over restarts, what operators set for users at run time. "
            "What --tenant-config sets counts instead."
        ),
        NS("serving"),
    ] = None
    tenant_report_cached: A[
        Literal["visible", "own", "none"],
        Arg(
            help="What `cached_tokens` of an answer counts. visible: all that this user found. "
            "own: what was private to them. none: nothing. Times still tell."
        ),
        NS("serving"),
    ] = "visible"
    tenant_header: A[
        str | None,
        Arg(help="Header in which a gateway that has authenticated the user names them."),
        NS("serving"),
    ] = None
    tenant_anonymous: A[
        Literal["isolate", "share", "reject"],
        Arg(
            help="Requests that name no user. isolate: nothing they compute is kept. share: "
            "they are one common user. reject: 401."
        ),
        NS("serving"),
    ] = "isolate"
    tenant_user_routes: A[
        list[str] | None,
        Arg(
            help="Paths of routes that a plugin adds, as its code writes them, which users may "
            "call. With another route that docs/access.md lacks the server does not start.",
            nargs="+",
        ),
        NS("serving"),
    ] = None
    tenant_public_users: A[
        int,
        Arg(
            help="selective: how many distinct users must hold the same harmless prefix within "
            "the window before it becomes public."
        ),
        NS("memory"),
    ] = 3
    tenant_promotion: A[
        Literal["count", "dp"],
        Arg(
            help="selective: what makes a harmless prefix public. count: as many users as "
            "--tenant-public-users, which as many colluding accounts can use to confirm a guess. "
            "dp: votes of users, counted when a voting window ends, against a random threshold: "
            "accounts in one hand learn no more than --tenant-dp-epsilon says."
        ),
        NS("memory"),
    ] = "count"
    tenant_dp_epsilon: A[
        float,
        Arg(
            help="dp: what all that one user sends in a period may change of what others see: any "
            "chance by a factor of e^epsilon at most."
        ),
        NS("memory"),
    ] = 1.0
    tenant_dp_delta: A[
        float,
        Arg(help="dp: the chance with which that may not hold."),
        NS("memory"),
    ] = 1e-5
    tenant_dp_votes: A[
        int,
        Arg(
            help="dp: the budget, votes of one user in a period. Each has its part of "
            "--tenant-dp-epsilon and --tenant-dp-delta."
        ),
        NS("memory"),
    ] = 1
    tenant_dp_window: A[
        int,
        Arg(help="dp: admitted requests to a voting window; nothing is promoted before its end."),
        NS("memory"),
    ] = 4096
    tenant_dp_period: A[
        int,
        Arg(help="dp: voting windows to a period, after which users have all their votes again."),
        NS("memory"),
    ] = 64
    tenant_epoch_requests: A[
        int,
        Arg(help="Admitted requests to an epoch; the window is this epoch and the one before."),
        NS("memory"),
    ] = 1024
    tenant_detector: A[
        Literal["none", "rules", "off-trust-all"],
        Arg(
            help="selective: who says what is harmless. rules: patterns for numbers, keys, names "
            "and the like that find nothing. none: nobody, only registered prefixes become public. "
            "off-trust-all: everything is taken for harmless; for benchmarks, and for prompts that "
            "nobody minds sharing."
        ),
        NS("serving"),
    ] = "rules"
    tenant_detector_model: A[
        str | None,
        Arg(
            help="Folder of a token-classification checkpoint that reads each prompt after the "
            "rules; on the CPU, in the detector's process."
        ),
        NS("serving"),
    ] = None
    tenant_detector_judge: A[
        bool,
        Arg(help="Ask the served model itself about what rules and model leave open."),
        NS("serving"),
    ] = False
    tenant_rdr_threshold: A[
        float,
        Arg(
            help="selective: a public prefix with fewer distinct users per hit than this, over "
            "the window, is taken for the target of a probe and becomes private again. Fewer users "
            "than this times --tenant-epoch-requests, alone on a server, cannot be told from a "
            "prober. 0 never demotes."
        ),
        NS("memory"),
    ] = 0.004
    tenant_rdr_min_hits: A[
        int,
        Arg(help="selective: hits in the window before --tenant-rdr-threshold is looked at."),
        NS("memory"),
    ] = 256
    tenant_quarantine_epochs: A[
        int,
        Arg(help="selective: epochs for which a probed prefix cannot become public again."),
        NS("memory"),
    ] = 64
    tenant_publish_private_events: A[
        bool,
        Arg(
            help="With --kv-events-config: publish events of private blocks too, under names "
            "that only this server can compute. Without it private blocks are not published."
        ),
        NS("memory"),
    ] = False
    tenant_idle_ttl: A[
        float | None,
        Arg(
            help="Seconds after which everything private to a user who sends no request is freed, "
            "on every tier. 0 or unset: never."
        ),
        NS("memory"),
    ] = None
    tenant_zeroize: A[
        bool,
        Arg(
            help="Overwrite every KV slot of device and host with zeros before it is free. Costs "
            "memory bandwidth for each token that leaves the cache."
        ),
        NS("memory"),
    ] = False
    tenant_metrics_plain_ids: A[
        bool,
        Arg(
            help="GET /tenant/metrics: user ids as they are, instead of a hash that stays the same "
            "as long as SGLANG_TENANT_PROCESS_KEY does."
        ),
        NS("serving"),
    ] = False

    tenant_input_weight: A[
        float,
        Arg(help="--schedule-policy vtc or dlpm: service that a prompt token counts for."),
        NS("schedule"),
    ] = 1.0
    tenant_cached_weight: A[
        float,
        Arg(
            help="vtc, dlpm: service that a prompt token counts for that was found in the cache. "
            "It computes nothing, but it holds memory for as long as the request runs."
        ),
        NS("schedule"),
    ] = 0.1
    tenant_output_weight: A[
        float,
        Arg(help="vtc, dlpm: service that a token of an answer counts for."),
        NS("schedule"),
    ] = 2.0
    tenant_dlpm_quantum: A[
        float,
        Arg(
            help="dlpm: service that each user gets before anybody gets more. Larger: more cache "
            "hits in a row; smaller: stricter."
        ),
        NS("schedule"),
    ] = 4096.0

    tenant_max_body_bytes: A[
        int,
        Arg(help="Largest body of a request. A larger one is 413, and is not read to its end."),
        NS("serving"),
    ] = 32 << 20
    tenant_body_timeout: A[
        float,
        Arg(
            help="Seconds after which a body must have come completely, then 408; and a request's "
            "first lines, then the connection ends."
        ),
        NS("serving"),
    ] = 60.0
    tenant_max_connections: A[
        int,
        Arg(
            help="Requests that one caller may have open in one HTTP process: a user whom key or "
            "header names, or an address. One more is a 429 before its body is read."
        ),
        NS("serving"),
    ] = 1000
    tenant_max_json_depth: A[
        int, Arg(help="How deep lists and objects of a body may be in each other."), NS("serving")
    ] = 64
    tenant_max_prompts: A[int, Arg(help="Prompts in one request, at most."), NS("serving")] = 2048
    tenant_max_samples: A[int, Arg(help="Answers to one prompt (`n`), at most."), NS("serving")] = (
        128
    )
    tenant_max_logprobs: A[
        int,
        Arg(
            help="Log probabilities that one prompt and its answer may ask for: positions times "
            "tokens listed at each."
        ),
        NS("serving"),
    ] = 2_000_000
    tenant_max_stops: A[
        int,
        Arg(help="Strings, tokens and regular expressions that end an answer, at most."),
        NS("serving"),
    ] = 64
    tenant_max_logit_bias: A[int, Arg(help="Entries of `logit_bias`, at most."), NS("serving")] = (
        1024
    )
    tenant_max_grammar_bytes: A[
        int,
        Arg(help="Largest JSON schema, regular expression or grammar of a request."),
        NS("serving"),
    ] = 65_536
    tenant_grammar_seconds: A[
        float,
        Arg(
            help="Seconds of CPU in which a grammar of a request must compile, and some steps be "
            "walked through it, in a process apart. 0: none is tried."
        ),
        NS("serving"),
    ] = 2.0
    tenant_grammar_step_seconds: A[
        float,
        Arg(help="Seconds of CPU that a grammar may need for one token of an answer."),
        NS("serving"),
    ] = 0.02
    tenant_grammar_memory: A[
        int, Arg(help="Megabytes that a grammar may need while it is compiled."), NS("serving")
    ] = 256
    tenant_max_media: A[
        int, Arg(help="Pictures, videos and sounds in one request, at most."), NS("serving")
    ] = 64
    tenant_max_media_bytes: A[
        int,
        Arg(
            help="Bytes of all pictures, videos and sounds of a request, at most: sent along or "
            "fetched."
        ),
        NS("serving"),
    ] = 64 << 20
    tenant_max_media_pixels: A[
        int,
        Arg(help="Pixels of all pictures of a request, at most: each takes three bytes of memory."),
        NS("serving"),
    ] = 1 << 27
    tenant_remote_media: A[
        Literal["public", "listed", "off"],
        Arg(
            help="Media that a request names by address (http or https). public: fetched from "
            "public addresses, and from --tenant-media-host. listed: from these only. off: not "
            "fetched. Files of the server are never read."
        ),
        NS("serving"),
    ] = "public"
    tenant_media_host: A[
        list[str] | None,
        Arg(
            help="Hosts that media may be fetched from though they are not public: names, "
            ".suffixes of names, addresses or networks (CIDR); with :PORT where that is not 80 or "
            "443."
        ),
        NS("serving"),
    ] = None
    tenant_media_timeout: A[
        float,
        Arg(help="Seconds in which all media of a request must have been fetched."),
        NS("serving"),
    ] = 20.0

    tenant_response_cache: A[
        int,
        Arg(
            help="Bytes of answers to keep, and to give again to a user who asks the same at "
            "temperature 0, or asks for it. 0: none."
        ),
        NS("serving"),
    ] = 0
    tenant_response_cache_ttl: A[
        float, Arg(help="Seconds after which a kept answer is dropped."), NS("serving")
    ] = 86_400.0
    tenant_response_cache_share: A[
        float,
        Arg(
            help="Share of --tenant-response-cache that one user may take up, who has no "
            "cache_share of their own."
        ),
        NS("serving"),
    ] = 0.25
    tenant_response_cache_file: A[
        str | None,
        Arg(help="SQLite file that keeps answers over a restart, instead of memory."),
        NS("serving"),
    ] = None
    tenant_response_cache_redis: A[
        str | None,
        Arg(help="URL of a Redis server that keeps answers of several servers, instead of memory."),
        NS("serving"),
    ] = None


FIELDS = [field.name for field in dataclasses.fields(TenantOptions)]


def upstream_fields(cls: type) -> list[str]:
    """Return the fields of ServerArgs that upstream registers itself."""
    return [f.name for f in dataclasses.fields(cls) if f.name not in FIELDS]


def add_tenant_args(parser: argparse.ArgumentParser) -> None:
    """Add all tenant flags, in one group of --help."""
    group = parser.add_argument_group("tenant cache")
    add_cli_args_from_dataclass(group, TenantOptions)


def flag(field: str) -> str:
    return "--" + field.replace("_", "-")
