"""Prune beside: what pruning old events costs those who emit meanwhile."""

from __future__ import annotations

import sys

from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, percentile
from benchmarks.row import Row
from benchmarks.sides import ours

OLD_EVENTS = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor, fanned_out_at)
SELECT gen_random_uuid(), 'ours.OrderPlaced', 1, 'k' || n, '{"lines": [1, 2, 3]}',
       now() - interval '100 days', gen_random_uuid(), '', '', now() - interval '100 days'
FROM generate_series(1, ?) AS n
"""

OLD_DELIVERIES = """
INSERT INTO outbox_delivery (event_id, subscription_id, state, due_at, token, started_token,
                             attempts, worker, note, settled_at)
SELECT e.seq, s.id, 'done', e.emitted_at, 1, 1, 1, 'w', '', e.emitted_at
FROM outbox_event e, outbox_subscription s
"""

PRUNE = """
import django
django.setup()
from datetime import timedelta
from outbox import actions
print(actions.prune(older_than=timedelta(days=30)))
"""

PER_SECOND = 50


def measure(ground: Ground, quick: bool) -> Result:
    """Emit at a steady pace, alone and while a second process prunes."""
    events, seconds = (50_000, 4) if quick else (500_000, 20)
    with ground.stage(ours(NUDGE=False)) as stage:
        stage.query(OLD_EVENTS, events)
        stage.query(OLD_DELIVERIES)
        ground.settle()
        alone = _emit(stage, seconds)
        stage.start("prune", [sys.executable, "-c", PRUNE])
        beside = _emit(stage, seconds)
        is_still_at_it = stage.is_running("prune")
        removed = events - int(stage.value("SELECT count(*) FROM outbox_event WHERE key LIKE 'k%'"))
    return Result(
        [Figure("p99 alone", [alone], "ms"), Figure("p99 while pruning", [beside], "ms")],
        [Ratio("prune_beside", beside / alone)],
        [
            f"{removed:,} of {events:,} old events were removed, and it was "
            f"{'still at it' if is_still_at_it else 'done before the end'}."
        ],
    )


def _emit(stage: Stage, seconds: int) -> float:
    pace = ("--per-second", str(PER_SECOND))
    taken = stage.call("benchmarks.project.emit", seconds * PER_SECOND, *pace)["milliseconds"]
    return percentile(taken[PER_SECOND // 2 :], 99)


ROW = Row(
    "prune_beside",
    "an order and its event, alone and beside a prune",
    "none; it is what the pace of pruning was chosen by",
    measure,
    is_extra=True,
)
