"""Hops: how many round trips and how much time each step takes, from `emit()` to the receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Result, median
from benchmarks.row import Row
from benchmarks.sides import ours


def measure(ground: Ground, quick: bool) -> Result:
    """Take the steps one after the other in one process, the broker left out."""
    return result_of(taken(ground, rounds=5 if quick else 20))


def taken(ground: Ground, *, rounds: int) -> Mapping[str, Any]:
    """Return the times and round trips of each step: see `benchmarks.probes.hops`."""
    with ground.stage(ours(NUDGE=False)) as stage:
        return cast(Mapping[str, Any], stage.call("benchmarks.probes.hops", rounds))


def result_of(found: Mapping[str, Any]) -> Result:
    """Return the figures of the steps."""
    figures = []
    for hop, times in found.items():
        trips = median(times["trips"])
        figures.append(Figure(f"{hop} ({trips:.0f} trips)", times["milliseconds"], "ms"))
    return Result(figures, [])


ROW = Row(
    "hops",
    "where the time goes: round trips to the database and milliseconds of each hop",
    "none; it explains the others",
    measure,
)
