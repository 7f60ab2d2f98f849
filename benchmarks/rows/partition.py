"""Partition: the cost for emitters while filled tables are converted into partitions."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.ground import CEILING, Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, percentile
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen

#: Orders per second. The first half second of each program does not count.
PER_SECOND = 100
SECONDS = 10

NAME = "partition"


def measure(ground: Ground, quick: bool) -> Result:
    """Emit at a steady pace: before, until the conversion has ended, and afterwards."""
    events = 200_000 if quick else chosen(10_000_000)
    with ground.stage(ours(NUDGE=False, PARTITION="day")) as stage:
        stage.call("benchmarks.probes.filling", events, ceiling=CEILING * max(1, events / 10**6))
        ground.settle()
        before = _emit(stage)
        beside, done = _convert(stage)
        ground.settle()
        after = _emit(stage)
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


def _convert(stage: Stage) -> tuple[list[float], dict[str, Any]]:
    """Emit until the conversion has ended; return the durations, and what it printed."""
    taken: list[float] = []
    stage.start_module(NAME, "benchmarks.probes.partitioning")
    while stage.is_running(NAME):
        taken += _emit(stage)
    return taken, json.loads(stage.log(NAME).strip().splitlines()[-1])


def _emit(stage: Stage) -> list[float]:
    pace = ("--per-second", str(PER_SECOND))
    found = stage.call("benchmarks.project.emit", SECONDS * PER_SECOND, *pace)
    milliseconds: list[float] = found["milliseconds"]
    return milliseconds[PER_SECOND // 2 :]


ROW = Row(
    "partition",
    "an order and its event, before, during and after the conversion into partitions",
    "p50 at most 1.5 of that before",
    measure,
    is_extra=True,
)
