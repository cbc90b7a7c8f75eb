"""What a board is made of, and how Grafana wants it written: JSON of its dashboard schema 39 (Grafana 10 and later)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = 39
WIDTH, HEIGHT = 24, 8  # of the grid, of a panel
INTERVAL = "$__rate_interval"
SOURCE = {"type": "prometheus", "uid": "${source}"}

Kind = Literal["timeseries", "stat"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `legend` may quote labels as `{{label}}`."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A drawing of some queries; `says` is what it is good for, `unit` one of Grafana's, `columns` its width of 24."""

    title: str
    says: str
    queries: Sequence[Query]
    unit: str = "short"
    columns: int = 8
    kind: Kind = "timeseries"
    stacked: bool = False


@dataclass(frozen=True)
class Board:
    """Panels from left to right, line by line; `name` is the file's name and the board's uid."""

    name: str
    title: str
    panels: Sequence[Panel]


def document(board: Board) -> dict[str, Any]:
    """Return the board as Grafana imports it, with a variable that chooses the Prometheus."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "uid": f"spiritsafe-{board.name}",
        "title": f"Spiritsafe · {board.title}",
        "tags": ["spiritsafe"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "links": [{"type": "dashboards", "title": "Spiritsafe", "tags": ["spiritsafe"], "asDropdown": True}],
        "panels": _placed(board.panels),
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.columns > WIDTH:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.columns, "h": HEIGHT}
        found.append({"id": number, "gridPos": place} | _drawn(panel))
        x += panel.columns
    return found


def _drawn(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query.expression, "legendFormat": query.legend}
        for number, query in enumerate(panel.queries)
    ]
    drawing = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stacked else {"fillOpacity": 0}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = drawing | {"lineWidth": 1, "showPoints": "never"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
