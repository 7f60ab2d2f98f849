"""Relay shape: a waiting loop in the worker, or a task for each nudge. See docs/decisions/0001."""

from __future__ import annotations

from functools import partial

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.row import Row
from benchmarks.rows.latency import latencies
from benchmarks.sides import TUNED, Side, ours

TASK = Side("a task for each nudge", "benchmarks.project.task_shape", TUNED)


def measure(ground: Ground, quick: bool) -> Result:
    """Measure the latency of both shapes, in turn."""
    count, repeats = (100, 1) if quick else (200, 5)
    sides = (ours(), TASK)
    found = in_turn(
        {side.name: partial(latencies, ground, side, count) for side in sides}, repeats=repeats
    )
    p50, p99 = (
        {name: [percentile(run, part) for run in runs] for name, runs in found.items()}
        for part in (50, 99)
    )
    return Result(
        [Figure(f"{name}, p50", values, "ms") for name, values in p50.items()]
        + [Figure(f"{name}, p99", values, "ms") for name, values in p99.items()],
        [Ratio.of("loop_vs_task_p50", p50["outbox"], p50[TASK.name])],
    )


ROW = Row(
    "relay_shape",
    "commit to handled at 20 orders a second, by the relay's shape",
    "none; a decision is based on it",
    measure,
    is_extra=True,
)
