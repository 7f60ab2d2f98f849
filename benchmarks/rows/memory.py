"""Memory: relay and workers over a long backlog."""

from __future__ import annotations

import time

import psutil

from benchmarks.ground import CEILING, Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, median
from benchmarks.row import Row
from benchmarks.sides import ours
from benchmarks.sizes import chosen

MEBIBYTE = 2**20

DONE = "SELECT count(*) FROM sales_effect"

#: Events as `emit()` stores them, in one statement, for a backlog of any size.
BACKLOG = """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor)
SELECT gen_random_uuid(), 'ours.OrderPlaced', 1, n::text,
       jsonb_build_object('order_id', gen_random_uuid(), 'customer', 'c', 'currency', 'JPY',
                          'total', 1, 'note', repeat('-', 300), 'lines', '[]'::jsonb),
       now(), gen_random_uuid(), '', ''
FROM generate_series(1, {count}) AS n
"""

Sizes = dict[str, list[float]]


def measure(ground: Ground, quick: bool) -> Result:
    """Have one relay and one worker work off a backlog; look at their memory on the way."""
    count = 8_000 if quick else max(200_000, chosen(0) // 10)
    with ground.stage(ours()) as stage:
        stage.query(BACKLOG.format(count=count))
        stage.start_relay()
        stage.start_worker(queues="ours", concurrency=2)
        sizes = _watch(stage, count)
        stage.wait_for_effects(count)
    figures = [Figure(f"{name}, from first to last tenth", *_shown(sizes[name])) for name in sizes]
    grown = {name: median(values[-3:]) / median(values[2:5]) for name, values in sizes.items()}
    ratios = [Ratio(f"growth of the {name}", value, at_most=1.1) for name, value in grown.items()]
    return Result(figures, ratios, [f"A backlog of {count:,} events, stored before they start."])


def _watch(stage: Stage, count: int) -> Sizes:
    """Return the resident sizes each time that a twentieth more is done."""
    sizes: Sizes = {"relay": [], "worker processes": []}
    for part in range(1, 20):
        _wait_for(stage, count * part // 20)
        sizes["relay"].append(_resident(stage.pid("relay")))
        sizes["worker processes"].append(sum(map(_resident, stage.children("worker"))))
    return sizes


def _wait_for(stage: Stage, done: int) -> None:
    end = time.monotonic() + CEILING
    while int(stage.value(DONE)) < done:
        if time.monotonic() > end:
            raise RuntimeError(f"{done} were never done.")
        time.sleep(0.1)


def _resident(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / MEBIBYTE)


def _shown(values: list[float]) -> tuple[list[float], str]:
    return values[:: len(values) // 6], "MiB"


ROW = Row(
    "memory",
    "resident memory of the relay and of the workers over a long backlog",
    "flat: at most 1.1 of the memory after the first tenth",
    measure,
)
