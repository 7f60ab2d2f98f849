"""Storage: the write-ahead log of an event and of a delivery, beside a raw loop's."""

from __future__ import annotations

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, median
from benchmarks.row import Row
from benchmarks.sides import ours


def measure(ground: Ground, quick: bool) -> Result:
    """Let both make the same transitions of as many rows, in one database, in turn."""
    with ground.stage(ours(NUDGE=False)) as stage:
        found = stage.call("benchmarks.probes.storage", 400 if quick else 4_000)
        sizes = stage.query(SIZES)
    figures = [Figure(f"per {name}", values, "bytes") for name, values in found.items()]
    event = median(found["event, emit()"]) / median(found["event, raw"])
    delivery = median(found["delivery, relayed and handled"]) / median(found["delivery, raw"])
    return Result(
        [*figures, *(Figure(f"stored: {table}", [size], "bytes a row") for table, size in sizes)],
        [
            Ratio("wal of an event", event, at_most=1.1),
            Ratio("wal of a delivery", delivery, at_most=1.1),
            Ratio("wal_vs_raw", max(event, delivery), at_most=1.1),
        ],
        ["A delivery: all that relay and worker write, the row of its effect included."],
    )


SIZES = """
SELECT t.relname, (pg_total_relation_size(c.oid) / n_live_tup)::float
FROM pg_class c JOIN pg_stat_user_tables t ON t.relid = c.oid
WHERE t.relname IN ('outbox_event', 'outbox_delivery') AND n_live_tup > 0
ORDER BY t.relname DESC
"""

ROW = Row(
    "storage",
    "bytes of write-ahead log per event and per delivery",
    "within 1.1 of a raw loop that makes the same row transitions",
    measure,
)
