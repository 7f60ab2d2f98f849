"""Hops: how many round trips and how much time each step takes, from `emit()` to the receipt."""

from __future__ import annotations

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Result, median
from benchmarks.row import Row
from benchmarks.sides import ours


def measure(ground: Ground, quick: bool) -> Result:
    """Take the steps one after the other in one process, the broker left out."""
    with ground.stage(ours(NUDGE=False)) as stage:
        found = stage.call("benchmarks.probes.hops", 5 if quick else 20)
    figures = []
    for hop, taken in found.items():
        trips = median(taken["trips"])
        figures.append(Figure(f"{hop} ({trips:.0f} trips)", taken["milliseconds"], "ms"))
    return Result(figures, [])


ROW = Row(
    "hops",
    "where the time goes: round trips to the database and milliseconds of each hop",
    "none; it explains the others",
    measure,
)
