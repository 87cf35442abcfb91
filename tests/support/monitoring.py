"""The files of examples/monitoring, as tests read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "examples" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "tenants.json"


@dataclass(frozen=True)
class PanelQuery:
    """``at_once``: only its newest values are shown."""

    row: str
    panel: str
    expr: str
    at_once: bool

    def __str__(self) -> str:
        return f"{self.row} / {self.panel}: {self.expr}"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel, after the title of its row."""
    row = ""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            yield row, panel


def panel_queries() -> list[PanelQuery]:
    return [
        PanelQuery(row, panel["title"], target["expr"], target["instant"])
        for row, panel in panels()
        for target in panel["targets"]
    ]


def filled_in(expr: str, values: dict[str, str]) -> str:
    """A query as Grafana sends it, with values for its ``$names``."""
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], expr)


def rules() -> list[dict[str, Any]]:
    return [rule for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}
