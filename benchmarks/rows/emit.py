"""Emit: the time that it adds to the order's transaction, beside one INSERT of the same row."""

from __future__ import annotations

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, median
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import rounds

#: Blocks of a series, of which one value is made.
BLOCKS = 80


def measure(ground: Ground, quick: bool) -> Result:
    """Take the median of each series; the broker is there, and is nudged after each commit."""
    series, blocks = (3, 25) if quick else (rounds(5), BLOCKS)
    with ground.stage(ours()) as stage:
        found = stage.call("benchmarks.probes.emission", series * blocks)
    added = {
        name: _medians(_less(found[name], found["nothing"]), series) for name in ("insert", "emit")
    }
    figures = [
        Figure("the order's transaction alone", _medians(found["nothing"], series), "ms"),
        Figure("a bare INSERT adds", added["insert"], "ms"),
        Figure("emit() adds", added["emit"], "ms"),
    ]
    return Result(
        figures, [Ratio.of("emit_vs_insert", added["emit"], added["insert"], at_most=1.5)]
    )


def _medians(values: list[float], series: int) -> list[float]:
    """Part the blocks into series, each spread over the whole time."""
    return [median(values[number::series]) for number in range(series)]


def _less(values: list[float], base: list[float]) -> list[float]:
    return [one - other for one, other in zip(values, base, strict=True)]


ROW = Row(
    "emit",
    "the time that emit() adds to an order's transaction, nudge included",
    "at most 1.5 of one bare INSERT of the same row",
    measure,
)
