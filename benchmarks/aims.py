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

#: The aims. `key` names a ratio, or a figure of the row `storage` in bytes. The value is not used.
AIMS = (
    Ratio("relay_vs_raw", 0, at_least=0.75),
    Ratio("relay_vs_best_peer", 0, at_least=12.0),
    Ratio("drain_vs_celery", 0, at_least=7.0),
    Ratio("sustained_vs_celery", 0, at_least=2.0),
    Ratio("sustained_vs_best_peer", 0, at_least=2.5),
    Ratio("latency_p50_vs_celery", 0, at_most=1.7),
    Ratio("through_a_worker_p50_vs_best_peer", 0, at_most=1.0),
    Ratio("latency_p50_vs_best_peer", 0, at_most=0.7),
    Ratio("latency_p99_vs_best_peer", 0, at_most=0.8),
    Ratio("express_p50_vs_celery", 0, at_most=1.0),
    Ratio("chain_vs_hop", 0, at_most=7.0),
    Ratio("emit_vs_insert", 0, at_most=1.2),
    Ratio("post_vs_bare", 0, at_least=0.7),
    Ratio("per event, emit()", 0, at_most=947.0),
    Ratio("per delivery, relayed and handled", 0, at_most=1750.0),
)


def lines(found: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield the cells of the table: the figure, its aim, and its value on each processor.

    Args:
        found: the results of each processor, as `report` writes them.
    """
    measured = [_measured(one["rows"]) for one in found]
    for aim in AIMS:
        yield [f"`{aim.key}`", aim.target, *(_shown(one.get(aim.key), aim) for one in measured)]


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
