"""Drain: events that are already emitted, beside Celery tasks that are already queued."""

from __future__ import annotations

from functools import partial

from benchmarks.ground import EFFECTS_PER_SECOND, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn
from benchmarks.row import Row
from benchmarks.sides import TUNED_CELERY, Side, ours


def measure(ground: Ground, quick: bool) -> Result:
    """Store them, then start one worker of two processes; its rate from first effect to last."""
    if quick:
        return compare(ground, events=5_000, tasks=2_000, repeats=1)
    return compare(ground, events=20_000, tasks=5_000, repeats=5)


def compare(ground: Ground, *, events: int, tasks: int, repeats: int) -> Result:
    """Return effects a second of both; fewer tasks are enough, as their rate stays the same."""
    sides = {
        "outbox": partial(drained, ground, ours(), events),
        "queued tasks, tuned": partial(drained, ground, TUNED_CELERY, tasks),
    }
    found = in_turn(sides, repeats=repeats)
    mine, theirs = found.values()
    figures = [Figure(name, values, "events/s") for name, values in found.items()]
    return Result(figures, [Ratio.of("drain_vs_celery", mine, theirs, at_least=5)])


def drained(ground: Ground, side: Side, count: int) -> float:
    """Return the effects per second of a backlog."""
    with ground.stage(side) as stage:
        stage.emit(count, "--batch", "500", "--events-only")
        ground.settle()
        stage.start_consumers()
        stage.wait_for_effects(count)
        return float(stage.value(EFFECTS_PER_SECOND))


ROW = Row(
    "drain",
    "events already emitted, one handler that inserts a row, 2 worker processes",
    "at least 5 times plain tuned Celery tasks already queued that do the same",
    measure,
)
