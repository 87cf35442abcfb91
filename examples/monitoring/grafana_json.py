"""Write panels in Grafana's JSON: what each kind looks like, and where it stands.

Colours are Grafana's own names, which suit its light theme and its dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

GOOD, NOTICE, BAD = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """``legend``: with labels as ``{{label}}``. ``line``: not stacked, but a dashed line above."""

    expr: str
    legend: str = ""
    line: bool = False


@dataclass(frozen=True)
class Panel:
    """``options`` and ``field``: of its kind, as Grafana calls them."""

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int
    field: Mapping[str, Any]
    options: Mapping[str, Any]
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()
    at_once: bool = False  # only the newest values, not a range of time


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


def steps(*limits: tuple[float, str], first: str = GOOD) -> Json:
    """Thresholds: ``first`` below all limits, from each limit on its own colour."""
    colours: list[Json] = [{"color": first, "value": None}]
    colours += [{"color": colour, "value": limit} for limit, colour in limits]
    return {"mode": "absolute", "steps": colours}


def curves(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    axis: str = "",
    stacked: bool = False,
    bars: bool = False,
    thresholds: Json | None = None,
    most: float | None = None,
    width: int = 8,
) -> Panel:
    """Values over time. ``most``: the end of the axis. ``axis``: what the unit does not say."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 30 if stacked else 5,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "showPoints": "never",
        "spanNulls": False,
        "axisLabel": axis,
        "axisSoftMin": 0,
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    field: Json = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "thresholds": thresholds or steps(),
    }
    if most is not None:
        field["max"] = most
    options = {
        "legend": {
            "showLegend": True,
            "displayMode": "table",
            "placement": "bottom",
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    lines = [_as_line(query.legend) for query in queries if query.line]
    return Panel(
        "timeseries", title, description, queries, width, 9, field, options, overrides=lines
    )


def number(
    title: str,
    description: str,
    query: Query,
    unit: str,
    *,
    thresholds: Json,
    words: Mapping[float, str] | None = None,
    missing: str = "no data",
    width: int = 4,
) -> Panel:
    """One number. ``words``: what is shown for some values. ``missing``: for none."""
    field: Json = {
        "unit": unit,
        "decimals": 1 if unit == "percentunit" else 0,  # increase() of a count is no whole number
        "noValue": missing,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds,
        "mappings": [
            {"type": "value", "options": {f"{value:g}": {"text": text, "index": index}}}
            for index, (value, text) in enumerate((words or {}).items())
        ],
    }
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "value",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel("stat", title, description, [query], width, 4, field, options, at_once=True)


def bars(
    title: str,
    description: str,
    query: Query,
    unit: str,
    *,
    thresholds: Json,
    most: float,
    width: int = 8,
) -> Panel:
    """A bar for each series, as it is now."""
    field = {
        "unit": unit,
        "min": 0,
        "max": most,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds,
    }
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "text",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel("bargauge", title, description, [query], width, 9, field, options, at_once=True)


def table(
    title: str,
    description: str,
    key: str,
    columns: Mapping[str, tuple[str, str]],
    *,
    width: int = 24,
) -> Panel:
    """A line for each value of the label ``key``. ``columns``: title -> query, unit."""
    letters = [_letter(index) for index in range(len(columns))]
    titles = {
        f"Value #{letter}": column for letter, column in zip(letters, columns, strict=True)
    } | {key: key}
    return Panel(
        "table",
        title,
        description,
        [Query(expr) for expr, _ in columns.values()],
        width,
        9,
        {"unit": "short", "color": {"mode": "thresholds"}, "thresholds": steps()},
        {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": next(iter(columns)), "desc": True}],
        },
        overrides=[_of_field(column, ("unit", unit)) for column, (_, unit) in columns.items()],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "renameByName": titles},
            },
        ],
        at_once=True,
    )


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Iterable[Row],
    *,
    variables: Sequence[Json],
    annotations: Sequence[Json],
) -> Json:
    """The whole, as Grafana's provisioning reads it."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["sglang"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one time for all panels
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "templating": {"list": list(variables)},
        "annotations": {"list": list(annotations)},
        "links": [],
        "panels": _placed(rows),
    }


def datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }


def label_variable(name: str, title: str, metric: str, label: str) -> Json:
    """The values of a label: all of them, or some."""
    query = f"label_values({metric}, {label})"
    return {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "values"},
        "refresh": 2,  # whenever the range of time changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def annotation(name: str, expr: str, title: str, colour: str) -> Json:
    """Marks on all panels, wherever the query has a value."""
    return {
        "name": name,
        "datasource": _DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "titleFormat": title,
        "step": "60s",
    }


def _placed(rows: Iterable[Row]) -> list[Json]:
    """Panels from left to right, and below where there is no more room."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y += 1
        x = tallest = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            at = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            placed.append(_panel(panel, len(placed) + 1, at))
            x += panel.width
            tallest = max(tallest, panel.height)
        y += tallest
    return placed


def _panel(panel: Panel, number: int, at: Json) -> Json:
    drawn: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": at,
        "targets": [_target(panel, index) for index in range(len(panel.queries))],
        "fieldConfig": {"defaults": dict(panel.field), "overrides": list(panel.overrides)},
        "options": dict(panel.options),
    }
    if panel.transformations:
        drawn["transformations"] = list(panel.transformations)
    return drawn


def _target(panel: Panel, index: int) -> Json:
    query = panel.queries[index]
    return {
        "refId": _letter(index),
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": panel.at_once,
        "range": not panel.at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _as_line(legend: str) -> Json:
    return _of_field(
        legend,
        ("custom.stacking", {"mode": "none", "group": "A"}),
        ("custom.fillOpacity", 0),
        ("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        ("color", {"mode": "fixed", "fixedColor": "text"}),
    )


def _of_field(name: str, *properties: tuple[str, Any]) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }
