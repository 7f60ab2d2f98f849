"""Prune: how many old events a second it removes while nobody else uses the database."""

from __future__ import annotations

import time

from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, ratio
from benchmarks.row import Row
from benchmarks.sides import ours

from .prune_beside import OLD_DELIVERIES, OLD_EVENTS

#: What a person would write who needs no check. Its commit is not waited for either.
BARE = """
SET synchronous_commit = off; DELETE FROM outbox_delivery; DELETE FROM outbox_event
"""


def measure(ground: Ground, quick: bool) -> Result:
    """Fill the tables and empty them, in turn by a prune and by bare statements."""
    events, repeats = (60_000, 3) if quick else (200_000, 5)
    with ground.stage(ours(NUDGE=False)) as stage:
        sides = {
            "prune": lambda: _rate(ground, stage, events, is_bare=False),
            "bare DELETE": lambda: _rate(ground, stage, events, is_bare=True),
        }
        found = in_turn(sides, repeats=repeats)
    return Result(
        [Figure(name, values, "events/s") for name, values in found.items()],
        [Ratio("prune_vs_delete", ratio(found["prune"], found["bare DELETE"]))],
        ["Each event has one delivery. A prune begins with a second of small batches."],
    )


def _rate(ground: Ground, stage: Stage, events: int, *, is_bare: bool) -> float:
    stage.query(OLD_EVENTS, events)
    stage.query(OLD_DELIVERIES)
    stage.query("ANALYZE")
    ground.settle()
    if is_bare:
        began = time.monotonic()
        stage.query(BARE)
        seconds = time.monotonic() - began
    else:
        seconds = stage.call("benchmarks.probes.pruning")["seconds"]
    if left := stage.value("SELECT count(*) FROM outbox_event"):
        raise RuntimeError(f"{left} of {events} events are left.")
    return events / seconds


ROW = Row(
    "prune",
    "old events that a prune removes while nobody else works, beside one bare DELETE",
    "20,000 events a second",
    measure,
    is_extra=True,
)
