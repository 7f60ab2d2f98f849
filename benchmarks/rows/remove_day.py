"""Remove day: how long a day of two million events takes to be emptied, beside emitters."""

from __future__ import annotations

from benchmarks.ground import CEILING, Ground
from benchmarks.harness import Figure, Ratio, Result, percentile
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen
from benchmarks.steady import emit, emit_beside

#: Seconds without the other program.
SECONDS = 5

OLD = "SELECT count(*) FROM outbox_event WHERE emitted_at < now() - interval '30 days'"


def measure(ground: Ground, quick: bool) -> Result:
    """Emit at a steady pace: before, until the day has gone, and afterwards."""
    events = 200_000 if quick else chosen(2_000_000)
    ceiling = CEILING * max(1, events / 10**6)
    with ground.stage(ours(NUDGE=False, PARTITION="day")) as stage:
        stage.call("benchmarks.probes.filling", events, ceiling=ceiling)
        stage.partition(ceiling=ceiling)
        ground.settle()
        before = emit(stage, SECONDS)
        beside, done = emit_beside(stage, "benchmarks.probes.removing", ceiling=ceiling)
        if left := stage.value(OLD):
            raise RuntimeError(f"{left} of {events} events are left.")
    found = {"before": before, "during the removal": beside}
    return Result(
        [Figure(f"p50 {side}", [percentile(taken, 50)], "ms") for side, taken in found.items()]
        + [Figure(f"p99 {side}", [percentile(taken, 99)], "ms") for side, taken in found.items()]
        + [Figure(f"longest {side}", [max(taken)], "ms") for side, taken in found.items()]
        + [
            Figure("emptying, with the wait for its locks", [done["emptying"]], "s"),
            Figure("emptying, from its locks to the end of its commit", [done["locked"]], "s"),
            Figure("longest wait of a reader of the day", [done["reader"]], "s"),
            Figure("all steps", [done["seconds"]], "s"),
        ],
        [Ratio("remove_day", done["locked"], at_most=1.0)],
        [f"{events:,} events, each with a receipt of every handler."],
    )


ROW = Row(
    "remove_day",
    "an order and its event, while a day of two million events is removed",
    "the day is emptied within a second",
    measure,
    is_extra=True,
)
