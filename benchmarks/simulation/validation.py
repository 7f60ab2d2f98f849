"""The model beside real runs: the same machine, the same hour, three loads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import psycopg

from benchmarks.ground import MILLISECONDS, ORDERS_PER_SECOND, Ground
from benchmarks.harness import percentile
from benchmarks.rows import drain, hops, latency, sustained
from benchmarks.sides import ours

from . import costs, runs
from .costs import Costs
from .runs import WARM_UP, Figures

#: Parts of the highest rate of one producer.
LOADS = (0.3, 0.6, 0.9)
#: Seconds of each run.
SECONDS = 15
#: Bounds of model / machine: throughput and p50, and p99.
WITHIN, WITHIN_P99 = (0.85, 1.15), (0.5, 2.0)

_COMMITS = 200
#: Processes whose first order is measured, and stages whose first delivery is.
_PROCESSES, _STAGES = 5, 3


@dataclass(frozen=True)
class Comparison:
    """A load in orders per second, with the figures of machine and model."""

    rate: float
    machine: Figures
    model: Figures

    def ratios(self) -> dict[str, float]:
        """Return model / machine of each figure."""
        model, machine = asdict(self.model), asdict(self.machine)
        return {name: model[name] / machine[name] for name in model}

    def is_within(self) -> bool:
        """Return whether each ratio is within its bounds."""
        bounds = {"throughput": WITHIN, "p50": WITHIN, "p99": WITHIN_P99}
        found = self.ratios()
        return all(low <= found[name] <= high for name, (low, high) in bounds.items())


def validate(ground: Ground) -> tuple[Costs, list[Comparison]]:
    """Measure the costs and three loads on this machine, and run the model with these costs."""
    measured = hops.measure(ground, False).figures
    figures: list[dict[str, Any]] = [{"name": one.name, "values": one.values} for one in measured]
    at_20 = latency.latencies(ground, ours(), 100)
    first_delivery = median(_first_delivery_seconds(ground) for _ in range(_STAGES))
    found = replace(
        costs.from_hops(figures, commit=_commit_seconds(ground)),
        first_order=_first_order_seconds(ground),
        first_pass=max(0.0, first_delivery - percentile(at_20, 50) / 1000),
    )
    found = runs.calibrated(
        found, drain=drain.drained(ground, ours(), 10_000), p50=percentile(at_20, 50)
    )
    highest = sustained.sustained(ground, ours(), 4_000)
    return found, [_compared(ground, found, highest * load) for load in LOADS]


def _compared(ground: Ground, found: Costs, rate: float) -> Comparison:
    count = int(rate * SECONDS)
    model = runs.one_machine(found, rate=rate, count=count)
    return Comparison(rate, _measured(ground, rate, count), model)


def _measured(ground: Ground, rate: float, count: int) -> Figures:
    with ground.stage(ours()) as stage:
        stage.start_consumers()
        stage.emit(WARM_UP + count, "--per-second", str(rate))
        stage.wait_for_effects(WARM_UP + count)
        taken = [float(row[0]) for row in stage.query(MILLISECONDS)][WARM_UP:]
        return Figures(
            float(stage.value(ORDERS_PER_SECOND)), percentile(taken, 50), percentile(taken, 99)
        )


def _first_delivery_seconds(ground: Ground) -> float:
    """Return the seconds from the commit of a stage's first order to that of its effect."""
    with ground.stage(ours()) as stage:
        stage.start_consumers()
        stage.emit(1)
        stage.wait_for_effects(1)
        return float(stage.query(MILLISECONDS)[0][0]) / 1000


def _first_order_seconds(ground: Ground) -> float:
    """Return the median seconds of the first order of a process, while the consumers wait."""
    with ground.stage(ours()) as stage:
        stage.start_consumers()
        orders = [stage.call("benchmarks.project.emit", 1) for _ in range(_PROCESSES)]
        return float(median(one["milliseconds"][0] for one in orders)) / 1000


def _commit_seconds(ground: Ground) -> float:
    """Return the seconds that a commit waits for the disk: with that wait minus without it."""
    with psycopg.connect(ground.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE commit_probe (id int)")
        try:

            def insert(mode: str) -> float:
                connection.execute(f"SET synchronous_commit = {mode}".encode())
                statement = "INSERT INTO commit_probe VALUES (1)"
                return median(
                    _timed(lambda: connection.execute(statement)) for _ in range(_COMMITS)
                )

            return max(insert("on") - insert("off"), 0.0)
        finally:
            connection.execute("DROP TABLE commit_probe")


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
