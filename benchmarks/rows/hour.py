"""One hour at 70 % of the highest rate, with a handler that does nothing."""

from __future__ import annotations

from benchmarks import endurance
from benchmarks.ground import Ground
from benchmarks.harness import Result, median
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen, minutes, rounds

#: Part of the highest rate.
LOAD = 0.7


def measure(ground: Ground, quick: bool) -> Result:
    """Measure the highest rate, then emit at a part of it."""
    side = ours().having(BENCHMARK_NOTHING="1")
    count, repeats = (1_000, 1) if quick else (8_000, rounds(5))
    rates = [endurance.highest_rate(ground, side, count=count) for _ in range(repeats)]
    highest = median(rates)
    found = endurance.run(
        ground,
        side,
        history=20_000 if quick else chosen(1_000_000),
        minutes=minutes(2 if quick else 60),
        per_second=LOAD * highest,
    )
    note = (
        f"The highest rate is {highest:,.0f} events a second. {LOAD:.0%} of it are "
        f"{60 * LOAD * highest:,.0f} events a minute, each with one delivery."
    )
    return Result(found.figures, found.ratios, [note, *found.notes])


ROW = Row(
    "hour",
    "one hour at 70 % of the highest rate, a handler that does nothing",
    "flat memory, flat p99, and only the data grows",
    measure,
    is_extra=True,
)
