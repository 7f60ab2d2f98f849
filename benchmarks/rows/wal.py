"""WAL: the bytes of each table and index per event. See docs/decisions/0092."""

from __future__ import annotations

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Result
from benchmarks.row import Row
from benchmarks.sides import ours

#: Bytes per event below which a table or index is left out.
LEAST = 5.0


def measure(ground: Ground, quick: bool) -> Result:
    """Read the log of a backlog, and of events that are processed one by one."""
    with ground.stage(ours(NUDGE=False)) as stage:
        found = stage.call("benchmarks.probes.wal", 400 if quick else 4_000)
    figures = [
        Figure(f"{step}: {relation}", [written], "bytes")
        for step, relations in found.items()
        for relation, written in relations.items()
        if written >= LEAST
    ]
    sums = [
        Figure(f"{step}, in all", [sum(relations.values())], "bytes")
        for step, relations in found.items()
    ]
    return Result([*sums, *figures], [], ["Without the padding between records."])


ROW = Row(
    "wal",
    "bytes of write-ahead log by table and index",
    "none; decision 92 is based on it",
    measure,
    is_extra=True,
)
