"""The metrics of a server under load, against what was really sent. Two HTTP processes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.patience import until
from support.prompts import fresh_prompt
from support.server import Server

pytestmark = pytest.mark.server

ADMIN, ANNE, BILL, LIMITED = "sk-admin", "sk-anne", "sk-bill", "sk-limited"
CONFIG = f"""
[users.anne-of-team-1]
keys = ["{ANNE}"]
weight = 2.0
[users.bill-of-team-2]
keys = ["{BILL}"]
[users.limited-one]
keys = ["{LIMITED}"]
max_running = 1
max_queued = 0
"""
PROCESS_KEY = "ab" * 32

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-hierarchical-cache", "--hicache-ratio", "4"),
        *("--max-total-tokens", "2048", "--tokenizer-worker-num", "2"),
        *("--tenant-config", str(config), "--admin-api-key", ADMIN, "--enable-metrics"),
        *("--schedule-policy", "dlpm"),
        env={"SGLANG_TENANT_PROCESS_KEY": PROCESS_KEY},
    ) as server:
        yield server


def ask(server: Server, key: str, text: str | list[str], tokens: int = 4) -> httpx.Response:
    params = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body: dict[str, Any] = {"text": text, "sampling_params": params}
    return server.http.post(
        "/generate", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=120
    )


def parse(text: str) -> Series:
    return {
        (sample.name.removeprefix("sglang:tenant_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("sglang:tenant_")
    }


def total(series: Series, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (at, on), value in series.items() if at == name and wanted <= on)


def metrics(server: Server) -> Series:
    return parse(server.http.get("/metrics").text)


def settled(server: Server) -> Series:
    """Return the metrics when what was asked before, a health check too, has been sampled."""
    before = metrics(server)
    while True:
        time.sleep(2.5)  # they are sampled once a second
        now = metrics(server)
        if total(now, "requests_total") == total(before, "requests_total"):
            return now
        before = now


def user_metrics(server: Server) -> str:
    response = server.http.get("/tenant/metrics", headers={"Authorization": f"Bearer {ADMIN}"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return response.text


def test_tokens_are_counted_where_they_were_found(server: Server) -> None:
    before = settled(server)
    prompt = fresh_prompt(200)
    sent = [ask(server, ANNE, prompt).json()["meta_info"] for _ in range(3)]
    found = sum(meta["cached_tokens"] for meta in sent)
    assert found > 300
    computed = sum(meta["prompt_tokens"] for meta in sent) - found

    def grown(name: str, **labels: str) -> float:
        return total(metrics(server), name, **labels) - total(before, name, **labels)

    until(lambda: grown("prompt_tokens_total", source="computed") >= computed)
    assert grown("prompt_tokens_total", source="computed") == computed
    assert grown("prompt_tokens_total", source="device") == found
    assert grown("requests_total") == 3
    until(lambda: grown("output_tokens_total") == 12)
    assert grown("admitted_requests_total") == 3
    until(lambda: total(metrics(server), "running_answers") == 0)


def test_what_is_evicted_and_comes_back_is_counted_by_tier(server: Server) -> None:
    before = settled(server)
    prompt = fresh_prompt(300)
    ask(server, ANNE, prompt)
    for _ in range(12):
        assert ask(server, BILL, fresh_prompt(300)).status_code == 200
    back = ask(server, ANNE, prompt).json()["meta_info"]["cached_tokens"]
    after = metrics(server)
    until(lambda: total(metrics(server), "requests_total") == total(before, "requests_total") + 14)
    after = metrics(server)
    assert total(after, "evicted_tokens_total", tier="device", scope="private") > 500
    host = total(after, "prompt_tokens_total", source="host")
    assert host - total(before, "prompt_tokens_total", source="host") > 200 or back > 200
    assert 0 < total(after, "cached_tokens", tier="device", scope="private") <= 2048
    assert total(after, "cache_capacity_tokens", tier="device") >= 2048
    assert total(after, "cache_owners", tier="device") >= 1


def test_what_becomes_public_is_counted(server: Server) -> None:
    prompt = "A preface that every reader knows by heart, about the weather. " * 4
    before = metrics(server)

    def promoted() -> bool:
        with ThreadPoolExecutor(3) as pool:
            replies = pool.map(lambda key: ask(server, key, prompt), [ANNE, BILL, LIMITED])
            assert [reply.status_code for reply in replies] == [200] * 3
        return total(metrics(server), "promotions_total") > total(before, "promotions_total")

    until(promoted, "it is public")
    assert ask(server, ANNE, prompt).status_code == 200
    until(
        lambda: (
            total(metrics(server), "prompt_tokens_total", scope="public")
            > total(before, "prompt_tokens_total", scope="public")
        )
    )
    after = metrics(server)
    assert total(after, "merges_total") > 0
    assert total(after, "cached_tokens", tier="device", scope="public") > 0
    assert total(after, "detector_verdicts_total", verdict="not_sensitive") > 0
    assert total(after, "detector_up") == 1
    assert total(after, "detector_latency_seconds_count") > 0
    assert total(after, "selftest_passed") == 1


def test_refusals_are_counted_by_status_limit_and_user(server: Server) -> None:
    before = metrics(server)
    with ThreadPoolExecutor(6) as pool:
        statuses = [
            r.status_code
            for r in pool.map(lambda _: ask(server, LIMITED, fresh_prompt(20), 300), range(6))
        ]
    refused = statuses.count(429)
    assert refused
    assert ask(server, ANNE, fresh_prompt(10), tokens=-1).status_code == 400
    assert ask(server, "sk-nobody", "x").status_code == 401

    def grown(name: str, **labels: str) -> float:
        return total(metrics(server), name, **labels) - total(before, name, **labels)

    until(lambda: grown("limited_requests_total", limit="max_queued") == refused)
    for status, number in (("400", 1), ("401", 1), ("429", refused)):
        until(lambda: grown("refused_requests_total", status=status) == number)  # noqa: B023
    wanted = "user_limited_requests_total"
    until(lambda: total(parse(user_metrics(server)), wanted, limit="max_queued") >= refused)


def test_users_are_shown_by_hash_to_operators_only(server: Server) -> None:
    before = total(parse(user_metrics(server)), "user_requests_total")
    for key in (ANNE, BILL):
        ask(server, key, fresh_prompt(30))
    text = user_metrics(server)
    series = parse(text)
    labels = {dict(on)["user"] for _, on in series}
    assert {label for label in labels if re.fullmatch("[0-9a-f]{16}", label)}
    assert "?other" in labels
    for name in ("anne-of", "bill-of", "limited-one"):
        assert name not in text
        assert name not in server.http.get("/metrics").text
    weights = [value for (at, _), value in series.items() if at == "user_weight"]
    assert 2.0 in weights
    assert total(series, "user_service") > 0
    assert total(series, "user_requests_total") == before + 2
    for stranger in (None, ANNE):
        headers = {"Authorization": f"Bearer {stranger}"} if stranger else {}
        assert server.http.get("/tenant/metrics", headers=headers).status_code in (401, 403)
