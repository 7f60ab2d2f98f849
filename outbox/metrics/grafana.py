"""A Grafana board, generated from the code's handlers: an overview, and a row for each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from outbox.subscriptions import Handler

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH = 24

#: An expression and its legend.
Query = tuple[str, str]


def grafana_board(handlers: Iterable[Handler]) -> str:
    """Return the board as JSON, to be imported or provisioned."""
    rows = [_overview(), *(_of_handler(one.name) for one in sorted(handlers, key=_name))]
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row, height in rows:
        panels.append(_row(title, top=top))
        panels += _side_by_side(row, top=top + 1, height=height)
        top += 1 + height
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return json.dumps({**_BOARD, "panels": panels}, indent=1) + "\n"


def _name(handler: Handler) -> str:
    return handler.name


def _overview() -> tuple[str, list[dict[str, Any]], int]:
    panels = [
        _stat("Dead", 'sum(outbox_owed{state="dead"})', bad=1),
        _stat("Owed", "sum(outbox_owed)"),
        _stat("Oldest event without deliveries", "max(outbox_oldest_waiting_seconds)", "s", bad=60),
        _stat("Since the relay was seen", 'min(outbox_last_seen_seconds{part="relay"})', "s", 60),
        _stat("Since beat was seen", 'min(outbox_last_seen_seconds{part="beat"})', "s", 60),
        _stat("Breakers open", "sum(outbox_breaker_open)", bad=1),
        _graph("Events", [("sum by (event) (rate(outbox_events_total[5m]))", "{{event}}")], "ops"),
        _graph("From the event to its deliveries", _shares("outbox_fan_out_seconds"), "s"),
    ]
    return "Overview", panels, 8


def _of_handler(name: str) -> tuple[str, list[dict[str, Any]], int]:
    only = f'{{handler="{name}"}}'
    attempts = f"sum by (outcome) (rate(outbox_attempts_total{only}[5m]))"
    panels = [
        _graph("Owed", [(f"sum by (state) (outbox_owed{only})", "{{state}}")]),
        _graph("Attempts", [(attempts, "{{outcome}}")], "ops"),
        _graph("From the event to its receipt", _shares("outbox_delivery_seconds", only), "s"),
        _graph("How long it runs", _shares("outbox_attempt_seconds", only), "s"),
    ]
    return name, panels, 7


def _shares(histogram: str, only: str = "") -> list[Query]:
    rate = f"sum by (le) (rate({histogram}_bucket{only}[5m]))"
    return [(f"histogram_quantile({share}, {rate})", f"p{share:.0%}"[:-1]) for share in (0.5, 0.95)]


def _graph(title: str, queries: Sequence[Query], unit: str = "short") -> dict[str, Any]:
    return _panel("timeseries", title, queries, {"unit": unit, "min": 0})


def _stat(title: str, query: str, unit: str = "short", bad: float | None = None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    thresholds = {"mode": "absolute", "steps": steps}
    return _panel("stat", title, [(query, "")], {"unit": unit, "thresholds": thresholds})


def _panel(
    kind: str, title: str, queries: Sequence[Query], defaults: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": kind,
        "title": title,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(queries)
        ],
    }


def _row(title: str, *, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _side_by_side(
    panels: Sequence[dict[str, Any]], *, top: int, height: int
) -> list[dict[str, Any]]:
    width = _WIDTH // len(panels)
    return [
        {**panel, "gridPos": {"h": height, "w": width, "x": number * width, "y": top}}
        for number, panel in enumerate(panels)
    ]


_BOARD: dict[str, Any] = {
    "title": "Outbox",
    "uid": "outbox",
    "description": "Written by `manage.py outbox grafana`; change it there.",
    "schemaVersion": 39,
    "version": 1,
    "tags": ["outbox"],
    "time": {"from": "now-3h", "to": "now"},
    "refresh": "30s",
    "templating": {
        "list": [
            {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
        ]
    },
}
