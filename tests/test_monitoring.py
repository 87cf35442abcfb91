"""The dashboard and the alert rules speak of metrics that exist; the files fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_dashboard
import pytest
from support.monitoring import (
    DASHBOARD,
    FOLDER,
    REPOSITORY,
    alerts,
    dashboard,
    panel_queries,
    panels,
    read_yaml,
    rules,
)

from sglang.srt.tenancy.http import process_metrics
from sglang.srt.tenancy.metrics import scheduler, users
from sglang.srt.tenancy.metrics.metric import Metric

HISTOGRAMS = {"detector_latency_seconds"}
# Labels that a series has besides its metric's own: of Prometheus, of the process, of a histogram.
SCRAPED, PROCESS, BUCKET = {"instance", "job"}, {"model_name"}, {"le"}
# Of Prometheus itself.
BUILT_IN = {"up": SCRAPED, "ALERTS": {"alertname", "alertstate", *SCRAPED}}

SELECTOR = re.compile(r"\b(sglang:[\w:]+|up|ALERTS)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPED = re.compile(r"\b(?:by|on|ignoring|group_left) *\(([^)]*)\)")


def metrics() -> Iterator[Metric]:
    for module in (scheduler, users, process_metrics):
        for value in vars(module).values():
            if isinstance(value, Metric):
                yield value
            elif isinstance(value, dict):
                yield from (entry for entry in value.values() if isinstance(entry, Metric))


def defined() -> dict[str, set[str]]:
    """The names of all series that there are, and their labels."""
    known = {name: set(labels) for name, labels in BUILT_IN.items()}
    for metric in metrics():
        own = set(metric.labels) | SCRAPED
        if not metric.name.startswith("user_"):
            own |= PROCESS
        name = f"sglang:tenant_{metric.name}"
        if metric.name in HISTOGRAMS:
            known |= {f"{name}_bucket": own | BUCKET, f"{name}_sum": own, f"{name}_count": own}
        else:
            known[name] = own
    known |= {rule["record"]: PROCESS | SCRAPED for rule in rules() if "record" in rule}
    return known


def expressions() -> list[str]:
    return [
        *(query.expr for query in panel_queries()),
        *(rule["expr"] for rule in rules()),
        *(entry["expr"] for entry in dashboard()["annotations"]["list"]),
        *(
            variable["query"]["query"]
            for variable in dashboard()["templating"]["list"]
            if variable["type"] == "query"
        ),
    ]


def test_the_definitions_are_found() -> None:
    names = {metric.name for metric in metrics()}
    assert {"promotions_total", "user_service", "selftest_passed", *HISTOGRAMS} <= names


def test_queries_are_of_metrics_and_labels_that_exist() -> None:
    known = defined()
    for expr in expressions():
        found = SELECTOR.findall(expr)
        assert found, expr
        of_any: set[str] = set()
        for name, matchers in found:
            assert name in known, expr
            assert set(MATCHER.findall(matchers)) <= known[name], expr
            of_any |= known[name]
        for group in GROUPED.findall(expr):
            assert {label.strip() for label in group.split(",")} <= of_any, expr


def test_each_metric_is_shown_or_watched() -> None:
    # Of no use to look at: they say how the tree is kept.
    apart = {"joins_total", "logical_frees_total"}
    # By user they are shown.
    apart |= {"output_tokens_total", "admitted_requests_total"}
    text = "\n".join(expressions())
    missing = {metric.name for metric in metrics() if f"tenant_{metric.name}" not in text}
    assert missing <= apart


def test_the_dashboard_is_what_the_script_writes() -> None:
    assert DASHBOARD.read_text() == make_dashboard.text(), (
        "run: python examples/monitoring/make_dashboard.py"
    )


def test_panels_say_what_they_show() -> None:
    shown = [panel for _, panel in panels()]
    assert len({panel["title"] for panel in shown}) == len(shown)
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        several = [target for target in panel["targets"] if panel["type"] == "timeseries"]
        assert all(target["legendFormat"] != "__auto" for target in several), panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_colours_are_names_that_suit_both_themes() -> None:
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb", DASHBOARD.read_text())


def test_legends_name_labels_that_the_query_keeps() -> None:
    for _, panel in panels():
        for target in panel["targets"]:
            kept = {
                label.strip()
                for group in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in group.split(",")
            }
            named = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert set(named) <= kept, target["expr"]


@pytest.mark.parametrize("name", sorted(alerts()))
def test_alerts_say_what_it_means_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    assert len(alert["annotations"]["description"]) > 120


def test_documentation_has_every_alert_and_row() -> None:
    text = (REPOSITORY / "docs" / "monitoring.md").read_text()
    for name, alert in alerts().items():
        assert f"| `{name}` | {alert['labels']['severity']} |" in text
    for row in {row for row, _ in panels()}:
        assert f"| {row} |" in text


def test_prometheus_scrapes_totals_and_users() -> None:
    config = read_yaml(FOLDER / "prometheus.yml")
    totals, by_user = config["scrape_configs"]
    assert "metrics_path" not in totals
    assert "authorization" not in totals
    assert by_user["metrics_path"] == "/tenant/metrics"
    assert set(by_user["authorization"]) == {"credentials_file"}
    assert {job["job_name"] for job in (totals, by_user)} == set(
        re.findall(r'job="([\w-]+)"', "\n".join(expressions()))
    )
    assert all((FOLDER / name).is_file() for name in config["rule_files"])
    for job in (totals, by_user):
        assert [list(FOLDER.glob(name)) for name in job["file_sd_configs"][0]["files"]] != [[]]


def compose() -> dict[str, Any]:
    return dict(read_yaml(FOLDER / "compose.yaml"))


def mounts(service: str) -> dict[str, str]:
    """Where a container sees our files and volumes: path inside -> outside."""
    entries = [entry.split(":") for entry in compose()["services"][service]["volumes"]]
    return {inside: outside for outside, inside, *_ in entries}


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_compose_starts_pinned_images_with_our_files_read_only(service: str) -> None:
    entry = compose()["services"][service]
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", entry["image"])
    for volume in entry["volumes"]:
        outside, _, *mode = volume.split(":")
        if outside.startswith("./"):
            assert (FOLDER / outside).exists()
            assert mode == ["ro"]
        else:
            assert outside in compose()["volumes"]


def test_compose_listens_on_the_loopback_interface() -> None:
    services = compose()["services"]
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert all("ports" not in entry for entry in services.values())


def test_compose_gives_prometheus_its_files_and_the_key() -> None:
    entry = compose()["services"]["prometheus"]
    [folder] = {
        str(Path(flag.split("=")[1]).parent)
        for flag in entry["command"]
        if flag.startswith("--config.file=")
    }
    secret = entry["secrets"][0]
    inside = {*mounts("prometheus"), secret["target"]}
    wanted = ("prometheus.yml", "alerts.yml", "targets", "admin-key")
    assert {f"{folder}/{name}" for name in wanted} <= inside
    assert secret["source"] in compose()["secrets"]
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/examples/monitoring/admin-key" in ignored


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = FOLDER / "grafana" / "provisioning"
    [source] = read_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://127.0.0.1:9090"
    interval = read_yaml(FOLDER / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    [provider] = read_yaml(provisioning / "dashboards" / "sglang.yaml")["providers"]
    outside = mounts("grafana")[provider["options"]["path"]]
    assert (FOLDER / outside).resolve() == DASHBOARD.parent
