"""Hot key: many relays and workers, where all events have one key and change one row.

All processes run before the backlog appears, with one commit: the start of eight relays takes as
long as the drain does, and would be measured in place of it.
"""

from __future__ import annotations

from functools import partial

from benchmarks.ground import EFFECTS_PER_SECOND, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn
from benchmarks.row import Row
from benchmarks.sides import TUNED, Side

HOT = Side("one key", "benchmarks.project.hot", TUNED)
WORKERS = 8

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
COUNTED = "SELECT sum(orders) FROM hot_tally"


def measure(ground: Ground, quick: bool) -> Result:
    """Drain a backlog with one relay and with eight; the row must have counted each event once."""
    count, repeats = (1_000, 1) if quick else (5_000, 5)
    relays = {"1 relay": 1, "8 relays": 8}
    sides = {name: partial(_drain, ground, number, count) for name, number in relays.items()}
    found = in_turn(sides, repeats=repeats)
    rates = {name: [rate for rate, _ in values] for name, values in found.items()}
    deadlocks = sum(number for values in found.values() for _, number in values)
    return Result(
        [
            Figure(f"{name}, {WORKERS} workers", values, "events/s")
            for name, values in rates.items()
        ],
        [
            Ratio.of("hot_key_vs_one_relay", rates["8 relays"], rates["1 relay"], at_least=0.7),
            Ratio("deadlocks", deadlocks, at_most=0),
        ],
    )


def _drain(ground: Ground, relays: int, count: int) -> tuple[float, int]:
    with ground.stage(HOT) as stage:
        stage.start_worker(queues="hot", concurrency=WORKERS)
        for number in range(relays):
            stage.start_relay(f"relay{number}")
        ground.settle()
        stage.emit(count, "--batch", str(count))
        stage.wait_for_effects(count)
        counted = stage.value(COUNTED)
        if counted != count:
            raise RuntimeError(f"{count} events, and the row has counted {counted}.")
        return float(stage.value(EFFECTS_PER_SECOND)), int(stage.value(DEADLOCKS))


ROW = Row(
    "hot_key",
    "one key: 8 relays and 8 worker processes",
    "no deadlock, and at least 0.7 of one relay's throughput",
    measure,
)
