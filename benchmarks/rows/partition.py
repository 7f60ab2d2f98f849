"""Partition: the cost for emitters while filled tables are converted into partitions."""

from __future__ import annotations

from benchmarks.ground import CEILING, Ground
from benchmarks.harness import Figure, Ratio, Result, percentile
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen
from benchmarks.steady import emit, emit_beside

#: Seconds without the other program.
SECONDS = 10


def measure(ground: Ground, quick: bool) -> Result:
    """Emit at a steady pace: before, until the conversion has ended, and afterwards."""
    events = 200_000 if quick else chosen(10_000_000)
    ceiling = CEILING * max(1, events / 10**6)
    with ground.stage(ours(NUDGE=False, PARTITION="day")) as stage:
        stage.call("benchmarks.probes.filling", events, ceiling=ceiling)
        ground.settle()
        before = emit(stage, SECONDS)
        beside, done = emit_beside(stage, "benchmarks.probes.partitioning", ceiling=ceiling)
        ground.settle()
        after = emit(stage, SECONDS)
    found = {"before": before, "during the conversion": beside, "afterwards": after}
    return Result(
        [Figure(f"p50 {side}", [percentile(taken, 50)], "ms") for side, taken in found.items()]
        + [Figure(f"p99 {side}", [percentile(taken, 99)], "ms") for side, taken in found.items()]
        + [Figure(f"longest {side}", [max(taken)], "ms") for side, taken in found.items()]
        + [Figure("conversion", [done["seconds"]], "s")],
        [
            Ratio("partition", percentile(beside, 50) / percentile(before, 50), at_most=1.5),
            Ratio("partition_after", percentile(after, 50) / percentile(before, 50), at_most=1.5),
        ],
        [
            f"{events:,} events and their receipts.",
            *(f"{step} {seconds:.1f} s" for step, seconds in done["steps"].items()),
        ],
    )


ROW = Row(
    "partition",
    "an order and its event, before, during and after the conversion into partitions",
    "p50 at most 1.5 of that before",
    measure,
    is_extra=True,
)
