"""Each alert fires on the series that it is for, and on no other.

Prometheus's own ``promtool`` evaluates the rules on made-up series, a value a minute.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from support.monitoring import ALERTS, FOLDER, alerts

pytestmark = pytest.mark.slow

MINUTES = 240
A = 'instance="a:1"'
B = 'instance="b:1"'

Series = dict[str, str]


def tenant(name: str, labels: str = "", server: str = A) -> str:
    """A series of a scheduler or HTTP process."""
    own = f", {labels}" if labels else ""
    return f'sglang:tenant_{name}{{{server}, job="sglang", model_name="m"{own}}}'


def of_user(name: str, labels: str, server: str = A) -> str:
    return f'sglang:tenant_user_{name}{{{server}, job="sglang-users", dp_rank="0", {labels}}}'


def up(job: str, server: str = A) -> str:
    return f'up{{{server}, job="{job}"}}'


def always(value: float) -> str:
    return f"{value:g}x{MINUTES}"


def grows(by: float, since: int = 0) -> str:
    """A counter that is 0 until the minute ``since``."""
    if not since:
        return f"0+{by:g}x{MINUTES}"
    return f"0x{since - 1} 0+{by:g}x{MINUTES - since}"


def changes(before: float, after: float, since: int) -> str:
    """A gauge."""
    return f"{before:g}x{since - 1} {after:g}x{MINUTES - since}"


def repeated(*values: float) -> str:
    return " ".join(f"{value:g}" for value in values * (MINUTES // len(values) + 1))


def computed(before: float, after: float, since: int) -> str:
    """A counter that grows by ``before`` a minute, and by ``after`` from ``since`` on."""
    return f"0+{before:g}x{since - 1} {before * since:g}+{after:g}x{MINUTES - since}"


def healthy(server: str) -> Series:
    """A busy server that has seen everything once, long ago, and has small troubles now."""
    return {
        up("sglang", server): always(1),
        up("sglang-users", server): always(1),
        tenant("selftest_passed", server=server): always(1),
        tenant("faulty_requests_total", server=server): always(3),
        tenant("quarantines_total", server=server): always(2),
        tenant("prompt_tokens_total", 'source="computed", scope="none"', server): grows(9000),
        tenant("prompt_tokens_total", 'source="device", scope="public"', server): grows(6000),
        tenant("prompt_tokens_total", 'source="host", scope="private"', server): grows(3000),
        tenant("cache_capacity_tokens", 'tier="device"', server): always(1000),
        tenant("cache_capacity_tokens", 'tier="host"', server): always(5000),
        tenant("cache_owners", 'tier="device"', server): always(9),
        tenant("cache_owners", 'tier="host"', server): always(30),
        tenant("service_spread", server=server): repeated(0, 9000, 15000, 30000, 12000),
        tenant("queued_answers", server=server): repeated(3, 8, 0, 1),
        tenant("refused_requests_total", 'status="401"', server): grows(2),
        tenant("refused_requests_total", 'status="429"', server): grows(500),
        tenant("detector_up", server=server): changes(0, 1, since=3),
        tenant("detector_queue", server=server): repeated(0, 300, 20, 0, 90, 700),
        tenant("detector_events_total", 'event="dropped"', server): always(12),
        tenant("detector_events_total", 'event="lost"', server): always(32),
        tenant("detector_events_total", 'event="crashes"', server): always(5),
        tenant("detector_events_total", 'event="offered"', server): grows(100),
        of_user("requests_total", 'user="u1"', server): grows(60),
        of_user("limited_requests_total", 'user="u1", limit="max_queued"', server): grows(20),
        of_user("requests_total", 'user="u2"', server): grows(0.1),
        of_user("limited_requests_total", 'user="u2", limit="max_queued"', server): grows(1),
        of_user("cached_tokens", 'user="u1", tier="device"', server): always(400),
        of_user("cached_tokens", 'user="?other", tier="device"', server): always(600),
        of_user("cached_tokens", 'user="u1", tier="host"', server): always(2000),
    }


COMPUTED = tenant("prompt_tokens_total", 'source="computed", scope="none"')
FOUND = tenant("prompt_tokens_total", 'source="device", scope="public"')
FOUND_TOO = tenant("prompt_tokens_total", 'source="host", scope="private"')

# What server A shows instead of what is healthy, by the alert that this is for.
SICK: dict[str, list[Series]] = {
    "SglangDown": [{up("sglang"): changes(1, 0, 235), up("sglang-users"): changes(1, 0, 235)}],
    "SglangUsersNotScraped": [{up("sglang-users"): changes(1, 0, 230)}],
    "TenantSelfTestFailed": [{tenant("selftest_passed"): changes(1, 0, 239)}],
    "TenantFaultyRequests": [{tenant("faulty_requests_total"): changes(3, 4, 235)}],
    "TenantPrefixProbed": [{tenant("quarantines_total"): changes(0, 1, 235)}],
    "TenantUserHoldsMostOfCache": [
        {of_user("cached_tokens", 'user="u1", tier="device"'): changes(400, 510, 200)},
        {of_user("cached_tokens", 'user="u1", tier="host"'): changes(400, 4000, 200)},
    ],
    "TenantHitShareFell": [
        {
            COMPUTED: computed(9000, 16000, 150),
            FOUND: computed(6000, 1000, 150),
            FOUND_TOO: computed(3000, 1000, 150),
        }
    ],
    "TenantServiceSpreadGrows": [
        {tenant("service_spread"): grows(500)},
        {tenant("service_spread"): " ".join(f"{700 * at + at % 7 * 900}" for at in range(241))},
    ],
    "TenantUserLimitedMuch": [
        {of_user("limited_requests_total", 'user="u1", limit="max_queued"'): grows(70, 210)},
        {of_user("limited_requests_total", 'user="u2", limit="tokens_per_minute"'): grows(6, 210)},
    ],
    "TenantAnswersWaitAtLimits": [{tenant("queued_answers"): changes(0, 2, 200)}],
    "TenantKeysRefused": [{tenant("refused_requests_total", 'status="401"'): grows(40, 200)}],
    "TenantDetectorDown": [{tenant("detector_up"): changes(1, 0, 230)}],
    "TenantDetectorFails": [
        {tenant("detector_events_total", 'event="crashes"'): grows(1, 230)},
        {tenant("detector_events_total", 'event="errors"'): grows(1, 230)},
    ],
    "TenantDetectorQueueGrows": [{tenant("detector_queue"): grows(20, 210)}],
    "TenantDetectorDrops": [
        {tenant("detector_events_total", f'event="{event}"'): grows(1, 220)}
        for event in ("dropped", "open_dropped", "lost")
    ],
}

# Not healthy in every respect, and still nothing to call anybody for.
NO_ALARM: dict[str, Series] = {
    "a server that was restarted": {
        up("sglang"): f"1x100 0 1x{MINUTES}",
        tenant("quarantines_total"): f"2x100 0x{MINUTES}",
        tenant("faulty_requests_total"): f"3x100 0x{MINUTES}",
    },
    "one scrape that failed": {up("sglang"): f"1x{MINUTES - 1} 0"},
    "events an hour ago": {
        tenant("quarantines_total"): changes(0, 9, 180),
        tenant("faulty_requests_total"): changes(0, 9, 180),
        tenant("selftest_passed"): f"1x100 0x20 1x{MINUTES}",
        tenant("detector_events_total", 'event="crashes"'): changes(0, 9, 180),
    },
    "a user alone on a server": {
        of_user("cached_tokens", 'user="u1", tier="device"'): always(990),
        tenant("cache_owners", 'tier="device"'): always(1),
    },
    "longer prompts from now on": {tenant("service_spread"): changes(8000, 60000, 190)},
    "no fair policy, no detector": {
        tenant("service_spread"): "",
        tenant("detector_up"): "",
        tenant("detector_queue"): "",
    },
    "hardly any requests": {
        COMPUTED: computed(9000, 20, 150),
        FOUND: computed(6000, 0, 150),
        FOUND_TOO: computed(3000, 0, 150),
    },
    "prompts that are all different": {FOUND: grows(500), FOUND_TOO: computed(300, 0, 100)},
    "a queue that is long and does not grow": {tenant("detector_queue"): always(800)},
    "a detector that was restarted": {tenant("detector_up"): "1x236 0 0 0 1"},
}


@pytest.fixture(scope="module")
def promtool(debian_tool: Callable[[str], Path]) -> Path:
    return debian_tool("promtool")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rules, for tests of them."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "alerts.yml").write_text(ALERTS.read_text())
    return folder


def run(promtool: Path, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def check(promtool: Path, folder: Path, cases: Mapping[str, tuple[Series, str | None]]) -> None:
    """``cases``: what server A shows instead of what is healthy, and which alert alone fires."""
    tests = []
    for name, (instead, alert) in cases.items():
        series = {**healthy(A), **healthy(B), **instead}
        firing = [{"labels": f'{{alertname="{alert}", {A}}}', "value": 1}] if alert else []
        expr = 'max by (alertname, instance) (ALERTS{alertstate="firing"})'
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [
                    {"series": at, "values": values} for at, values in series.items() if values
                ],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": f"{MINUTES}m", "exp_samples": firing}
                ],
            }
        )
    written = folder / "test.yml"
    written.write_text(
        yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    run(promtool, "test", "rules", str(written))


def test_config_and_rules_are_valid(promtool: Path, tmp_path: Path) -> None:
    for file in ("prometheus.yml", "alerts.yml"):
        (tmp_path / file).write_text((FOLDER / file).read_text())
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "sglang.yml").write_text(
        (FOLDER / "targets" / "sglang.yml").read_text()
    )
    (tmp_path / "admin-key").write_text("adm-key\n")
    run(promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    run(promtool, "check", "rules", "--lint-fatal", str(tmp_path / "alerts.yml"))


def test_every_alert_has_a_case() -> None:
    assert set(SICK) == set(alerts())


def test_a_healthy_server_is_quiet(promtool: Path, files: Path) -> None:
    check(promtool, files, {"healthy": ({}, None)})


@pytest.mark.parametrize("alert", sorted(SICK))
def test_it_fires_alone_and_for_that_server(promtool: Path, files: Path, alert: str) -> None:
    check(
        promtool,
        files,
        {f"{alert} {at}": (instead, alert) for at, instead in enumerate(SICK[alert])},
    )


def test_what_looks_alike_is_no_alarm(promtool: Path, files: Path) -> None:
    check(promtool, files, {name: (instead, None) for name, instead in NO_ALARM.items()})
