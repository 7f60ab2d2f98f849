"""Scaling: more processes for the one handler that waits, and for nobody else."""

from __future__ import annotations

from functools import partial

from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn
from benchmarks.project.waiting import NOTED_BESIDE
from benchmarks.row import Row
from benchmarks.sides import TUNED, Side

WAITING = Side("one that waits", "benchmarks.project.waiting", TUNED)
SCALE = 4

DONE = """
SELECT count(*) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id
WHERE s.queue = ? AND d.state = 'done'
"""
RATE = """
SELECT (count(*) - 1) / extract(epoch FROM max(d.settled_at) - min(d.settled_at))::float
FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id WHERE s.queue = ?
"""

Rates = dict[str, float]


def measure(ground: Ground, quick: bool) -> Result:
    """Drain both queues, the waiting one with one process and with four, as `--scale` has it."""
    count, repeats = (80, 1) if quick else (200, 5)
    sides = {str(number): partial(_drain, ground, number, count) for number in (1, SCALE)}
    found = in_turn(sides, repeats=repeats)
    waiting = {number: [one["outside"] for one in found[number]] for number in found}
    other = {number: [one["ours"] for one in found[number]] for number in found}
    many = str(SCALE)
    return Result(
        [
            *(Figure(f"waiting, {n} processes", waiting[n], "deliveries/s") for n in waiting),
            *(Figure(f"the other queue, meanwhile {n}", other[n], "deliveries/s") for n in other),
        ],
        [
            Ratio.of("scaling", waiting[many], waiting["1"], at_least=0.8 * SCALE),
            Ratio.of("other queue", other[many], other["1"], at_least=0.8),
        ],
    )


def _drain(ground: Ground, processes: int, count: int) -> Rates:
    with ground.stage(WAITING) as stage:
        stage.start_worker("outside", queues="outside", concurrency=processes)
        stage.start_worker("others", queues="ours", concurrency=1)
        stage.emit(count, "--batch", "100")
        stage.start_relay()
        stage.wait_for_effects(count * (1 + NOTED_BESIDE))
        stage.wait_until(lambda: _is_through(stage, count), "the waiting handler is through")
        return {queue: float(stage.value(RATE, queue)) for queue in ("outside", "ours")}


def _is_through(stage: Stage, count: int) -> bool:
    return int(stage.value(DONE, "outside")) == count


ROW = Row(
    "scaling",
    f"a handler that waits, with {SCALE} processes in place of one, as by `up --scale`",
    "drains in proportion, and no other queue changes",
    measure,
)
