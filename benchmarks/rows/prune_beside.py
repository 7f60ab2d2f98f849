"""Prune beside: the cost of pruning old events for code that emits meanwhile."""

from __future__ import annotations

import time

from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, median, percentile
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
FROM outbox_event e JOIN outbox_subscription s ON s.event = e.name
"""

#: Orders per second. The first half second does not count.
PER_SECOND = 100

NAME = "prune"


def measure(ground: Ground, quick: bool) -> Result:
    """Emit at a steady pace, in turn alone and while another process prunes.

    The planner has no statistics of the old events, as in a young or a restored database.
    """
    events, seconds, repeats = (60_000, 3, 3) if quick else (200_000, 4, 4)
    removed: list[float] = []
    with ground.stage(ours(NUDGE=False)) as stage:
        stage.query(OLD_EVENTS, events)
        stage.query(OLD_DELIVERIES)
        sides = {
            "p99 alone": lambda: _alone(ground, stage, seconds),
            "p99 while pruning": lambda: _beside(ground, stage, seconds, removed),
        }
        found = in_turn(sides, repeats=repeats)
    alone, beside = found.values()
    return Result(
        [Figure(name, values, "ms") for name, values in found.items()]
        + [Figure("pruned meanwhile", removed, "events/s")],
        [
            Ratio("prune_beside", median(beside) / median(alone), at_most=1.2),
            Ratio("prune_beside_noise", max(alone) / min(alone)),
        ],
        ["The noise is the slowest run alone beside the quickest one."],
    )


def _alone(ground: Ground, stage: Stage, seconds: int) -> float:
    ground.settle()
    return _emit(stage, seconds)


def _beside(ground: Ground, stage: Stage, seconds: int, removed: list[float]) -> float:
    ground.settle()
    stage.start_module(NAME, "benchmarks.probes.pruning")
    before, began = _old_events(stage), time.monotonic()
    taken = _emit(stage, seconds)
    removed.append((before - _old_events(stage)) / (time.monotonic() - began))
    if not stage.is_running(NAME):
        raise RuntimeError(f"It was through before the end: {stage.log(NAME)[-500:]}")
    stage.kill(NAME)
    return taken


def _old_events(stage: Stage) -> int:
    return int(stage.value("SELECT count(*) FROM outbox_event WHERE key LIKE 'k%'"))


def _emit(stage: Stage, seconds: int) -> float:
    pace = ("--per-second", str(PER_SECOND))
    taken = stage.call("benchmarks.project.emit", seconds * PER_SECOND, *pace)["milliseconds"]
    return percentile(taken[PER_SECOND // 2 :], 99)


ROW = Row(
    "prune_beside",
    "an order and its event, alone and beside a prune",
    "p99 at most 1.2 of that alone",
    measure,
    is_extra=True,
)
