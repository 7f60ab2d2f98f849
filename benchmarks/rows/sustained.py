"""Sustained: orders are placed at full speed by one process while two processes handle them."""

from __future__ import annotations

from functools import partial

from benchmarks.ground import ORDERS_PER_SECOND, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn
from benchmarks.row import Row
from benchmarks.sides import TUNED_CELERY, UNTUNED_CELERY, Side, ours


def measure(ground: Ground, quick: bool) -> Result:
    """Emit and handle at once, each side in turn."""
    return compare(ground, count=1_500 if quick else 4_000, repeats=2 if quick else 5)


def compare(ground: Ground, *, count: int, repeats: int) -> Result:
    """Return orders a second, from the first order's commit to the last effect's."""
    sides = (ours(), TUNED_CELERY, UNTUNED_CELERY)
    measures = {side.name: partial(sustained, ground, side, count) for side in sides}
    found = in_turn(measures, repeats=repeats)
    mine, tuned, untuned = (found[side.name] for side in sides)
    return Result(
        [Figure(name, values, "orders/s") for name, values in found.items()],
        [
            Ratio.of("sustained_vs_celery", mine, tuned, at_least=1.5),
            Ratio.of("sustained_vs_untuned_celery", mine, untuned, at_least=3),
        ],
    )


def sustained(ground: Ground, side: Side, count: int) -> float:
    """Return one side's orders a second."""
    with ground.stage(side) as stage:
        stage.start_consumers()
        stage.emit(count)
        stage.wait_for_effects(count)
        return float(stage.value(ORDERS_PER_SECOND))


ROW = Row(
    "sustained",
    "emit and handle at once, 2 worker processes",
    "at least 1.5 times tuned `on_commit(task.delay)`, 3 times untuned",
    measure,
)
