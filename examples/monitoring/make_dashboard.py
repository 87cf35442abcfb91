"""Write grafana/dashboards/tenants.json: what the fork's metrics show, for operators.

python examples/monitoring/make_dashboard.py
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_json import (
    BAD,
    GOOD,
    NOTICE,
    Json,
    Panel,
    Query,
    Row,
    annotation,
    bars,
    curves,
    dashboard,
    datasource_variable,
    label_variable,
    number,
    steps,
    table,
)

WRITTEN = Path(__file__).parent / "grafana" / "dashboards" / "tenants.json"

# What the operator has chosen above the panels. Series by user have no model_name.
_HERE = 'model_name=~"$model", instance=~"$instance"'
_USERS = 'instance=~"$instance"'
_TIERS = ("device", "host")


def _metric(name: str, matchers: str = "") -> str:
    chosen = _USERS if name.startswith("user_") else _HERE
    inside = f"{chosen}, {matchers}" if matchers else chosen
    return f"sglang:tenant_{name}{{{inside}}}"


def _rate(name: str, by: str = "", matchers: str = "") -> str:
    return _sum(f"rate({_metric(name, matchers)}[$__rate_interval])", by)


def _per_minute(name: str, by: str = "", matchers: str = "") -> str:
    return f"60 * {_rate(name, by, matchers)}"


def _grown(name: str, over: str, matchers: str = "") -> str:
    return f"sum(increase({_metric(name, matchers)}[{over}]))"


def _sum(expr: str, by: str = "") -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def _share_of_capacity(by: str, matchers: str = "") -> str:
    held = _sum(_metric("user_cached_tokens", matchers), f"{by}, tier")
    return f"{held} / on (tier) group_left {_sum(_metric('cache_capacity_tokens'), 'tier')}"


def _glance() -> Row:
    hits = _grown("prompt_tokens_total", "$__range", 'source="computed"')
    prompts = _grown("prompt_tokens_total", "$__range")
    good_is_1 = steps((1, GOOD), first=BAD)
    return Row(
        "At a glance",
        [
            number(
                "Server",
                "Whether every chosen server answers /metrics.",
                Query('min(up{job="sglang", instance=~"$instance"})'),
                "none",
                thresholds=good_is_1,
                words={1: "up", 0: "down"},
            ),
            number(
                "Isolation",
                "Whether the last self-test passed. POST /tenant/selftest repeats it.",
                Query(f"min({_metric('selftest_passed')})"),
                "none",
                thresholds=good_is_1,
                words={1: "holds", 0: "does not hold"},
            ),
            number(
                "Detector",
                "Whether the detector's processes run. Without them nothing new becomes public.",
                Query(f"min({_metric('detector_up')})"),
                "none",
                thresholds=good_is_1,
                words={1: "runs", 0: "down"},
                missing="off",
            ),
            number(
                "Prompt tokens cached",
                "Share of all prompt tokens that were found on some tier, over the time shown.",
                Query(f"1 - {hits} / {prompts}"),
                "percentunit",
                thresholds=steps(first="text"),
            ),
            number(
                "Prefixes probed",
                "Public prefixes that somebody seemed to probe, over the time shown.",
                Query(_grown("quarantines_total", "$__range")),
                "none",
                thresholds=steps((0.5, NOTICE)),
            ),
            number(
                "Alerts",
                "Alerts of alerts.yml that fire now, of all severities.",
                Query(
                    'count(ALERTS{alertstate="firing", alertname=~"(Sglang|Tenant).+", '
                    'instance=~"$instance"}) or vector(0)'
                ),
                "none",
                thresholds=steps((1, BAD)),
            ),
        ],
    )


def _sharing() -> Row:
    held = [
        Query(_sum(_metric("cached_tokens"), "tier, scope"), "{{tier}} {{scope}}"),
        *(
            Query(
                _sum(_metric("cache_capacity_tokens", f'tier="{tier}"')),
                f"{tier} capacity",
                line=True,
            )
            for tier in _TIERS
        ),
    ]
    return Row(
        "Sharing",
        [
            curves(
                "Hit share by tier and scope",
                "Of all prompt tokens, the share found on a tier; public: in a prefix that all "
                "share, private: in the user's own. The rest is computed.",
                [
                    Query(
                        _rate("prompt_tokens_total", "source, scope", 'source!="computed"')
                        + " / ignoring (source, scope) group_left "
                        + _rate("prompt_tokens_total"),
                        "{{source}} {{scope}}",
                    )
                ],
                "percentunit",
                stacked=True,
                most=1,
            ),
            curves(
                "Prompt tokens by where they were found",
                "Prompt tokens per second: found on a tier, or computed.",
                [Query(_rate("prompt_tokens_total", "source, scope"), "{{source}} {{scope}}")],
                "short",
                axis="tokens/s",
                stacked=True,
            ),
            curves(
                "Tokens held",
                "What each tier holds, public and private, and what fits. A tier that is full is "
                "no fault: it is evicted from when something new comes.",
                held,
                "short",
                axis="tokens",
            ),
            curves(
                "Promotions, demotions, merges",
                "Prefixes that became public by use, and private again; private copies merged "
                "into a public prefix.",
                [
                    Query(_per_minute(f"{event}_total"), event)
                    for event in ("promotions", "demotions", "merges")
                ],
                "cpm",
            ),
            curves(
                "Memory saved by merging",
                "Device tokens freed because users share one copy, per second.",
                [Query(_rate("freed_duplicates_total"), "freed")],
                "short",
                axis="tokens/s",
            ),
            curves(
                "Evicted",
                "Tokens evicted per second. Much of the device and little of the host: a larger "
                "--hicache-ratio keeps more. Much of both: memory is short.",
                [Query(_rate("evicted_tokens_total", "tier, scope"), "{{tier}} {{scope}}")],
                "short",
                axis="tokens/s",
                stacked=True,
            ),
        ],
    )


def _memory() -> Row:
    return Row(
        "Memory by user",
        [
            *(_memory_of(tier) for tier in _TIERS),
            bars(
                "Share of capacity, now",
                "How much of a tier each user's private prefixes fill. From half on, "
                "TenantUserHoldsMostOfCache is near.",
                Query(_share_of_capacity("user"), "{{user}} {{tier}}"),
                "percentunit",
                thresholds=steps((0.5, NOTICE), (0.8, BAD)),
                most=1,
            ),
            curves(
                "Users who hold something private",
                "How many users share a tier. Who has something on several servers counts on each.",
                [Query(_sum(_metric("cache_owners"), "tier"), "{{tier}}")],
                "short",
                axis="users",
            ),
            curves(
                "Taken for their share, or for being idle",
                "Tokens per second taken from users above their cache_share, and from users idle "
                "for --tenant-idle-ttl.",
                [
                    Query(_rate("tokens_over_share_total"), "over cache_share"),
                    Query(_rate("expired_tokens_total"), "idle"),
                ],
                "short",
                axis="tokens/s",
            ),
            curves(
                "Device tokens in use",
                "Tokens that running requests read or wait for: they cannot be evicted. Near the "
                "capacity, new requests wait.",
                [
                    Query(_sum(_metric("locked_tokens")), "in use"),
                    Query(
                        _sum(_metric("cache_capacity_tokens", 'tier="device"')),
                        "device capacity",
                        line=True,
                    ),
                ],
                "short",
                axis="tokens",
            ),
        ],
    )


def _memory_of(tier: str) -> Panel:
    on = f'tier="{tier}"'
    return curves(
        f"Held on the {tier}",
        f"Private tokens of each user on the {tier}, what is public, and what fits. ?other: all "
        "users who are not shown by themselves.",
        [
            Query(_sum(_metric("user_cached_tokens", on), "user"), "{{user}}"),
            Query(_sum(_metric("cached_tokens", f'{on}, scope="public"')), "public"),
            Query(_sum(_metric("cache_capacity_tokens", on)), "capacity", line=True),
        ],
        "short",
        axis="tokens",
        stacked=True,
    )


def _fairness() -> Row:
    computed = _rate("user_prompt_tokens_total", "user", 'source="computed"')
    asked = _rate("user_prompt_tokens_total", "user")
    return Row(
        "Fairness",
        [
            curves(
                "Service by user",
                "vtc, dlpm: service due to each user so far, by weight. Lines of users who always "
                "wait run in parallel; a flat one has nothing to be served.",
                [Query(_sum(_metric("user_service"), "user"), "{{user}}")],
                "short",
                axis="service",
            ),
            curves(
                "Spread of service",
                "vtc, dlpm: service of the user served most less the least's, of those who wait. "
                "It stays below a bound; one that only grows is TenantServiceSpreadGrows.",
                [Query(f"max by (instance) ({_metric('service_spread')})", "{{instance}}")],
                "short",
                axis="service",
            ),
            curves(
                "Tokens served, by user",
                "Prompt tokens computed and tokens of answers, per second.",
                [Query(f"{computed} + {_rate('user_output_tokens_total', 'user')}", "{{user}}")],
                "short",
                axis="tokens/s",
                stacked=True,
            ),
            curves(
                "Users who wait",
                "Users with a request in the schedulers' queues: from 2 on, the policy decides.",
                [Query(_sum(_metric("waiting_users")), "users")],
                "short",
                axis="users",
            ),
            curves(
                "Requests that wait, by user",
                "vtc, dlpm: requests in the schedulers' queues.",
                [Query(_sum(_metric("user_waiting_requests"), "user"), "{{user}}")],
                "short",
                axis="requests",
                stacked=True,
            ),
            curves(
                "Requests that run, by user",
                "vtc, dlpm: requests in a batch.",
                [Query(_sum(_metric("user_running_requests"), "user"), "{{user}}")],
                "short",
                axis="requests",
                stacked=True,
            ),
            curves(
                "Answers at limits",
                "Answers let in and under way, and those that wait for their user's max_running.",
                [
                    Query(_sum(_metric("running_answers")), "under way"),
                    Query(_sum(_metric("queued_answers")), "waiting"),
                ],
                "short",
                axis="answers",
            ),
            curves(
                "Refused by limits",
                "Requests answered 429, by the limit.",
                [Query(_rate("limited_requests_total", "limit"), "{{limit}}")],
                "reqps",
                stacked=True,
            ),
            curves(
                "Refused by limits, by user",
                "Requests answered 429. A client that honours Retry-After has few. No data: none.",
                [Query(_rate("user_limited_requests_total", "user"), "{{user}}")],
                "reqps",
                stacked=True,
            ),
            table(
                "Users",
                "Each user now. Rates are of the last minutes, cached is the share of their "
                "prompt tokens that was found.",
                "user",
                {
                    "tokens/s": (f"{asked} + {_rate('user_output_tokens_total', 'user')}", "short"),
                    "requests/s": (_rate("user_requests_total", "user"), "reqps"),
                    "cached": (f"1 - {computed} / {asked}", "percentunit"),
                    "weight": (f"max by (user) ({_metric('user_weight')})", "short"),
                    "tokens held": (_sum(_metric("user_cached_tokens"), "user"), "short"),
                    "waiting": (_sum(_metric("user_waiting_requests"), "user"), "short"),
                    "running": (_sum(_metric("user_running_requests"), "user"), "short"),
                },
            ),
        ],
    )


def _detector() -> Row:
    buckets = _rate("detector_latency_seconds_bucket", "le")
    return Row(
        "Detector",
        [
            curves(
                "Verdicts",
                "Prompts scanned per second. Only what is not sensitive may become public; a "
                "prompt without text (token ids that have none) never does.",
                [Query(_rate("detector_verdicts_total", "verdict"), "{{verdict}}")],
                "reqps",
                stacked=True,
            ),
            curves(
                "Queue",
                "Prompts that wait to be scanned. At 1,024 to an HTTP process the oldest are "
                "given up.",
                [Query(f"sum by (instance) ({_metric('detector_queue')})", "{{instance}}")],
                "short",
                axis="prompts",
                thresholds=steps((512, NOTICE), (1024, BAD)),
            ),
            curves(
                "From a prompt's arrival to its result",
                "Half of the prompts, and 99 of 100, took no longer. Requests do not wait for it.",
                [
                    Query(f"histogram_quantile({quantile}, {buckets})", name)
                    for quantile, name in ((0.5, "p50"), (0.99, "p99"))
                ],
                "s",
            ),
            curves(
                "Prompts without a result",
                "Given up because too many waited (dropped, open_dropped), lost with a process "
                "that ended, or forgotten with their user. They stay private.",
                [
                    Query(
                        _per_minute(
                            "detector_events_total",
                            "event",
                            'event=~"dropped|open_dropped|lost|forgotten"',
                        ),
                        "{{event}}",
                    )
                ],
                "cpm",
                stacked=True,
                width=12,
            ),
            curves(
                "Crashes and errors",
                "Processes that ended and were started again; results that could not be delivered.",
                [
                    Query(
                        _per_minute("detector_events_total", "event", 'event=~"crashes|errors"'),
                        "{{event}}",
                    )
                ],
                "cpm",
                bars=True,
                width=12,
            ),
        ],
    )


def _attacks() -> Row:
    return Row(
        "Attacks and faults",
        [
            curves(
                "Quarantines",
                "Public prefixes that few users asked for often, and that are private again.",
                [Query(_per_minute("quarantines_total"), "quarantines")],
                "cpm",
                bars=True,
            ),
            curves(
                "Prefixes that must stay private",
                "Entries of the promotion blocklist: sensitive content, and probed prefixes until "
                "their quarantine ends.",
                [Query(_sum(_metric("blocked_prefixes"), "reason"), "{{reason}}")],
                "short",
                axis="entries",
            ),
            curves(
                "Refused, by status",
                "Requests that the fork refused. 400: malformed; 401: keys that are not known; "
                "403: not theirs to ask; 413, 408: too large, too slow; 429: limits.",
                [Query(_rate("refused_requests_total", "status"), "{{status}}")],
                "reqps",
                stacked=True,
            ),
            curves(
                "Requests that could not be taken in",
                "Each is a bug worth a report. The request was refused alone.",
                [Query(_per_minute("faulty_requests_total"), "faulty")],
                "cpm",
                bars=True,
            ),
            curves(
                "Prefixes lost while in use",
                "Requests whose prefix became private under them: they go on, and leave nothing.",
                [Query(_per_minute("outlived_prefixes_total"), "outlived")],
                "cpm",
            ),
            curves(
                "Users erased",
                "Erased by operators or the self-test, and idle for --tenant-idle-ttl.",
                [
                    Query(_per_minute("erasures_total"), "erased"),
                    Query(_per_minute("expired_users_total"), "idle"),
                ],
                "cpm",
                bars=True,
            ),
        ],
    )


def _responses() -> Row:
    return Row(
        "Response cache",
        [
            curves(
                "Requests the response cache saw",
                "With --tenant-response-cache. hits: answered with what was kept, or together with "
                "another request; misses: computed; bypasses: not to be kept.",
                [Query(_rate("response_cache_requests_total", "result"), "{{result}}")],
                "reqps",
                stacked=True,
            ),
            curves(
                "Seconds of computing saved",
                "What the engine took, the first time, for answers that were given again; for each "
                "second.",
                [Query(_rate("response_cache_saved_seconds_total"), "saved")],
                "short",
                axis="s/s",
            ),
            curves(
                "Answers kept",
                "Bytes of all users' answers, and how many.",
                [
                    Query(_sum(_metric("response_cache_bytes")), "bytes"),
                    Query(_sum(_metric("response_cache_entries")), "answers"),
                ],
                "short",
            ),
            curves(
                "Answers dropped, and failures of the store",
                "evicted for room, expired by age; a file or Redis that fails is gone on without.",
                [
                    Query(_per_minute("response_cache_dropped_total", "reason"), "{{reason}}"),
                    Query(_per_minute("response_cache_failures_total"), "store failed"),
                ],
                "cpm",
            ),
        ],
    )


def tenants() -> Json:
    """The dashboard."""
    requests = "sglang:tenant_requests_total"
    chosen = f'{requests}{{model_name=~"$model"}}'
    firing = 'ALERTS{alertstate="firing", alertname=~"(Sglang|Tenant).+", instance=~"$instance"}'
    return dashboard(
        "sglang-tenants",
        "SGLang: tenants",
        "Who shares what, who holds and gets how much, what the detector does, who attacks. "
        "Written by examples/monitoring/make_dashboard.py.",
        [_glance(), _sharing(), _memory(), _fairness(), _detector(), _responses(), _attacks()],
        variables=[
            datasource_variable(),
            label_variable("model", "Model", requests, "model_name"),
            label_variable("instance", "Server", chosen, "instance"),
        ],
        annotations=[annotation("Alerts", firing, "{{alertname}}", BAD)],
    )


def text() -> str:
    return json.dumps(tenants(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    WRITTEN.write_text(text())
