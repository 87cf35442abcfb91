"""A real Prometheus scrapes a real server under load; no panel of the dashboard is empty then."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import prometheus
from support.monitoring import dashboard, filled_in, panel_queries
from support.patience import until
from support.prometheus import Prometheus
from support.prompts import fresh_prompt
from support.server import Server

pytestmark = pytest.mark.server

ADMIN, ANNE, BILL, CARL, LIMITED = "sk-admin", "sk-anne", "sk-bill", "sk-carl", "sk-limited"
CONFIG = f"""
[users.anne]
keys = ["{ANNE}"]
weight = 2.0
[users.bill]
keys = ["{BILL}"]
[users.carl]
keys = ["{CARL}"]
[users.limited]
keys = ["{LIMITED}"]
max_running = 1
max_queued = 1
"""
# For what Grafana would put into queries: a few scrapes, and all of the time shown.
INTERVALS = {"__rate_interval": "10s", "__range": "60s"}
PREFACE = "A preface that every reader knows by heart, about the weather and the sea. " * 4
PROBES = 40


@dataclass(frozen=True)
class Observed:
    """``start`` and ``end``: of the load, in seconds since the epoch."""

    prometheus: Prometheus
    start: float
    end: float


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-hierarchical-cache", "--hicache-ratio", "4"),
        *("--max-total-tokens", "2048", "--schedule-policy", "dlpm", "--enable-metrics"),
        *("--max-running-requests", "2"),
        *("--tenant-config", str(config), "--admin-api-key", ADMIN),
        *("--tenant-response-cache", "1000000"),
        # One user's hits alone are soon a probe.
        *("--tenant-epoch-requests", "64", "--tenant-rdr-min-hits", "20"),
        *("--tenant-rdr-threshold", "0.12"),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def observed(
    server: Server, debian_tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    program = debian_tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    target = server.url.removeprefix("http://")
    with prometheus.running(program, folder, target, ADMIN) as scraping:
        until(lambda: are_up(scraping), "scraped")
        start = time.time()
        Load(server).run(scraping)
        yield Observed(scraping, start, time.time())


class Load:
    """Somebody who probes what has become public; then two users whose prompts do not all fit, and
    one whom a limit holds back."""

    def __init__(self, server: Server):
        self._server = server
        self._over = threading.Event()

    def run(self, scraping: Prometheus) -> None:
        """Return when all has happened and was scraped."""
        self._publish(scraping)
        self._probe(scraping)
        self._be_refused()
        self._repeat()
        with ThreadPoolExecutor(9) as pool:
            others = [pool.submit(self._reader, key) for key in (ANNE, BILL) * 3]
            others += [pool.submit(self._impatient) for _ in range(3)]
            try:
                until(lambda: seen(scraping, 'limited_requests_total{limit="max_queued"}'))
                until(lambda: seen(scraping, 'prompt_tokens_total{source="host"}'))
                until(lambda: seen(scraping, 'detector_verdicts_total{verdict="sensitive"}'))
                until(lambda: seen(scraping, "user_limited_requests_total"))
                for name in ("waiting_users", "user_waiting_requests", "service_spread"):
                    until(lambda: ever_seen(scraping, name), name)  # noqa: B023
                # A rate needs two values of a series.
                time.sleep(3)
            finally:
                self._over.set()
        for other in others:
            other.result()

    def _ask(
        self, key: str, prompt: str, tokens: int = 4, cached: str = "no-store"
    ) -> httpx.Response:
        """``cached``: by default each request is the engine's to answer."""
        params = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        return httpx.post(
            f"{self._server.url}/generate",
            json={"text": prompt, "sampling_params": params},
            headers={"Authorization": f"Bearer {key}", "Cache-Control": cached},
            timeout=120,
        )

    def _repeat(self) -> None:
        for _ in range(2):
            assert self._ask(CARL, "again", cached="max-age=60").status_code == 200

    def _reader(self, key: str) -> None:
        prompts = [fresh_prompt(300) for _ in range(3)]
        while not self._over.is_set():
            for prompt in prompts:
                assert self._ask(key, prompt).status_code == 200

    def _impatient(self) -> None:
        while not self._over.is_set():
            assert self._ask(LIMITED, fresh_prompt(40), 20).status_code in (200, 429)

    def _publish(self, scraping: Prometheus) -> None:
        def published() -> bool:
            for key in (ANNE, BILL, CARL):
                assert self._ask(key, PREFACE).status_code == 200
            return seen(scraping, "promotions_total")

        until(published, "promoted")

    def _probe(self, scraping: Prometheus) -> None:
        def noticed() -> bool:
            for _ in range(PROBES):
                assert self._ask(CARL, PREFACE, 1).status_code == 200
            return seen(scraping, "quarantines_total")

        until(noticed, "taken for a probe")

    def _be_refused(self) -> None:
        assert self._ask(CARL, "x", tokens=-1).status_code == 400
        assert self._ask("sk-nobody", "x").status_code == 401
        assert self._ask(CARL, "Charge my card 4111 1111 1111 1111 for it.").status_code == 200


def are_up(scraping: Prometheus) -> bool:
    return {target["health"] for target in scraping.targets().values()} == {"up"}


def seen(scraping: Prometheus, selector: str) -> bool:
    return any(finite(series) > 0 for series in scraping.now(f"sglang:tenant_{selector}"))


def ever_seen(scraping: Prometheus, gauge: str) -> bool:
    """Whether it was more than 0 at any scrape."""
    return bool(scraping.now(f"max_over_time(sglang:tenant_{gauge}[5m]) > 0"))


def finite(series: dict[str, Any]) -> float:
    """The last finite value of a series, NaN where there is none."""
    points = series["values"] if "values" in series else [series["value"]]
    numbers = [float(value) for _, value in points]
    return next((number for number in reversed(numbers) if math.isfinite(number)), math.nan)


def variables(scraping: Prometheus) -> dict[str, str]:
    """What an operator who chooses all models and servers puts into queries."""
    values = dict(INTERVALS)
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            inside = filled_in(variable["query"]["query"], values).removeprefix("label_values(")
            metric, label = inside.removesuffix(")").rsplit(", ", 1)
            found = scraping.values_of(label, metric)
            assert found, variable["name"]
            values[variable["name"]] = "|".join(found)
    return values


def test_both_jobs_are_scraped_with_the_key_from_the_file(observed: Observed) -> None:
    assert set(observed.prometheus.targets()) == {"sglang", "sglang-users"}
    until(lambda: are_up(observed.prometheus))


@pytest.mark.parametrize("escaping", [None, "underscores", "allow-utf-8"])
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/tenant/metrics"])
def test_series_have_one_name_for_every_scraper(
    server: Server, path: str, escaping: str | None
) -> None:
    """Prometheus 2 says nothing of names; 3 wants them as they are, or as 2 had them."""
    parameter = f";escaping={escaping}" if escaping else ""
    accept = f"application/openmetrics-text;version=1.0.0{parameter},text/plain;version=0.0.4;q=0.5"
    headers = {"Accept": accept, "Authorization": f"Bearer {ADMIN}"}
    response = server.http.get(path, headers=headers)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert any(line.startswith("sglang:tenant_") for line in samples)
    assert not [line for line in samples if line.startswith("sglang_")]


def test_no_panel_is_empty_under_load(observed: Observed) -> None:
    values = variables(observed.prometheus)
    empty = []
    for query in panel_queries():
        expr = filled_in(query.expr, values)
        found = (
            observed.prometheus.now(expr)
            if query.at_once
            else observed.prometheus.over(expr, observed.start, observed.end)
        )
        if not any(math.isfinite(finite(series)) for series in found):
            empty.append(str(query))
    assert not empty


def test_what_happened_is_more_than_0(observed: Observed) -> None:
    """Of what the load made happen, a panel that shows 0 throughout shows the wrong series."""
    values = variables(observed.prometheus)
    happened = {
        *(
            "Hit share by tier and scope",
            "Promotions, demotions, merges",
            "Memory saved by merging",
        ),
        *("Evicted", "Held on the device", "Held on the host", "Service by user"),
        *("Spread of service", "Tokens served, by user", "Users who wait"),
        *("Requests that wait, by user", "Requests that run, by user", "Answers at limits"),
        *("Refused by limits", "Refused by limits, by user", "Verdicts", "Quarantines"),
        *("From a prompt's arrival to its result", "Refused, by status"),
        *("Prefixes that must stay private",),
    }
    shown = {query.panel for query in panel_queries()}
    assert happened <= shown
    for query in panel_queries():
        if query.panel in happened:
            expr = filled_in(query.expr, values)
            found = observed.prometheus.over(expr, observed.start, observed.end)
            assert any(float(value) > 0 for each in found for _, value in each["values"]), query


def test_alerts_mark_the_panels(observed: Observed) -> None:
    values = variables(observed.prometheus)
    [marks] = dashboard()["annotations"]["list"]
    assert observed.prometheus.now(filled_in(marks["expr"], values))


def test_refusals_are_counted_from_0(observed: Observed) -> None:
    for status, number in (("400", 1), ("401", 1), ("403", 0), ("408", 0), ("413", 0)):
        selector = f'sglang:tenant_refused_requests_total{{status="{status}"}}'
        [series] = observed.prometheus.now(selector)
        assert float(series["value"][1]) == number
        [first] = observed.prometheus.over(selector, observed.start - 1, observed.end)
        assert float(first["values"][0][1]) == 0
    limits = observed.prometheus.values_of("limit", "sglang:tenant_limited_requests_total")
    assert {"max_connections", "max_queued", "max_running", "tokens_per_minute"} <= set(limits)


def test_users_have_a_series_each(observed: Observed) -> None:
    values = variables(observed.prometheus)
    by_user = [query for query in panel_queries() if "user_" in query.expr and not query.at_once]
    assert by_user
    for query in by_user:
        expr = filled_in(query.expr, values)
        users = {
            series["metric"].get("user")
            for series in observed.prometheus.over(expr, observed.start, observed.end)
        }
        least = 1 if "limited" in expr else 4
        assert len(users - {None, "?other"}) >= least, query


def test_rules_can_be_evaluated_and_the_probe_is_told(observed: Observed) -> None:
    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in observed.prometheus.rules())

    until(evaluated)
    rules = observed.prometheus.rules()
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    firing = {
        alert["labels"]["alertname"]: alert
        for rule in rules
        for alert in rule.get("alerts", [])
        if alert["state"] == "firing"
    }
    assert set(firing) == {"TenantPrefixProbed"}
    annotations = firing["TenantPrefixProbed"]["annotations"]
    assert observed.prometheus.values_of("instance", "up")[0] in annotations["summary"]


def test_the_shares_shown_are_those_of_the_counters(observed: Observed) -> None:
    [share] = observed.prometheus.now("sglang:tenant_hit_share:30m")
    assert 0 < finite(share) < 1
