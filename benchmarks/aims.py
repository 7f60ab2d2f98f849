"""Aims: what the figures should reach on each processor, beyond the targets of the rows.

A target is a bound that must hold. An aim that is missed needs an explanation in
`docs/performance.md`, with the profile that shows what bounds the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from . import report
from .harness import Ratio

#: By the name of a ratio: the aim. The value is not used.
RATIOS = {
    "relay_vs_raw": Ratio("", 0, at_least=0.75),
    "relay_vs_best_peer": Ratio("", 0, at_least=12.0),
    "drain_vs_celery": Ratio("", 0, at_least=7.0),
    "sustained_vs_celery": Ratio("", 0, at_least=2.0),
    "sustained_vs_best_peer": Ratio("", 0, at_least=2.5),
    "latency_p50_vs_celery": Ratio("", 0, at_most=1.7),
    "through_a_worker_p50_vs_best_peer": Ratio("", 0, at_most=1.0),
    "latency_p50_vs_best_peer": Ratio("", 0, at_most=0.7),
    "latency_p99_vs_best_peer": Ratio("", 0, at_most=0.8),
    "express_p50_vs_celery": Ratio("", 0, at_most=1.0),
    "chain_vs_hop": Ratio("", 0, at_most=7.0),
    "emit_vs_insert": Ratio("", 0, at_most=1.2),
    "post_vs_bare": Ratio("", 0, at_least=0.7),
}
#: By the name of a figure of the row `storage`: the aim, in bytes of write-ahead log.
BYTES = {
    "per event, emit()": Ratio("", 0, at_most=947.0),
    "per delivery, relayed and handled": Ratio("", 0, at_most=1750.0),
}


def lines(found: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield the cells of the table: the figure, its aim, and its value on each processor.

    Args:
        found: the results of each processor, as `report` writes them.
    """
    measured = [_measured(one["rows"]) for one in found]
    for name, aim in {**RATIOS, **BYTES}.items():
        key = f"`{name}`" if name in RATIOS else f"bytes {name}"
        shown = [_shown(column.get(name), aim) for column in measured]
        yield [key, aim.target, *shown]


def _measured(rows: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the values of ratios and of `storage`, each with the foreign load of its row."""
    values = {
        one["key"]: (one["value"], row.get("foreign", 0.0))
        for row in rows.values()
        for one in row.get("ratios", [])
    }
    storage = rows.get("storage", {})
    for one in storage.get("figures", []):
        values[one["name"]] = median(one["values"]), storage.get("foreign", 0.0)
    return values


def _shown(measured: tuple[float, float] | None, aim: Ratio) -> str:
    if measured is None:
        return "not measured"
    value, foreign = measured
    verdict = report.verdict(replace(aim, value=value), foreign=foreign)
    return f"{report.number(value)}, {verdict}"
