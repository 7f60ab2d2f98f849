"""Latency: from an order's commit to the commit of its handler's effect, at 20 orders a second.

Of 120 orders the 99th percentile is the slowest but one, and says more of the machine than of a
side; of 300 it is the slowest but three.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.ground import MILLISECONDS, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.peers import DOMAIN_EVENTS
from benchmarks.row import Row
from benchmarks.sides import INLINE, TUNED_CELERY, Side, ours

WARM_UP = 20
PER_SECOND = 20


def measure(ground: Ground, quick: bool) -> Result:
    """Place orders at a steady pace, each side in turn."""
    return compare(ground, count=80 if quick else 300, repeats=2 if quick else 5)


def compare(ground: Ground, *, count: int, repeats: int) -> Result:
    """Return the median and the 99th percentile of each side, and the outbox against others."""
    sides = (ours(), TUNED_CELERY, INLINE, DOMAIN_EVENTS.side())
    measures = {side.name: partial(latencies, ground, side, count) for side in sides}
    found = in_turn(measures, repeats=repeats)
    p50, p99 = _each(found, 50), _each(found, 99)
    mine, celery, inline, peer = (side.name for side in sides)
    return Result(
        [
            Figure(f"{name}, {label}", values[name], "ms")
            for name in found
            for label, values in (("p50", p50), ("p99", p99))
        ],
        [
            Ratio.of("latency_p50_vs_celery", p50[mine], p50[celery], at_most=2.5),
            Ratio.of("latency_p99_vs_celery", p99[mine], p99[celery], at_most=2.5),
            Ratio.of("latency_p50_vs_best_peer", p50[inline], p50[peer], at_most=1),
            Ratio.of("latency_p99_vs_best_peer", p99[inline], p99[peer], at_most=1),
            Ratio.of("express_p50_vs_celery", p50[inline], p50[celery]),
            Ratio.of("express_p99_vs_celery", p99[inline], p99[celery]),
            Ratio.of("through_a_worker_p50_vs_best_peer", p50[mine], p50[peer]),
        ],
        [
            f"The quickest durable peer is {DOMAIN_EVENTS.name}, whose relay runs the handler "
            "itself; so does ours where the handler says `inline=True`, and these two are "
            "compared. Against Celery, which has a worker, stands the way through a worker.",
        ],
    )


def latencies(ground: Ground, side: Side, count: int) -> list[float]:
    """Return the milliseconds of each order, the first ones left out."""
    with ground.stage(side) as stage:
        stage.start_consumers()
        stage.emit(WARM_UP + count, "--per-second", str(PER_SECOND))
        stage.wait_for_effects(WARM_UP + count)
        return [float(row[0]) for row in stage.query(MILLISECONDS)][WARM_UP:]


def _each(found: dict[str, list[list[float]]], part: int) -> dict[str, Sequence[float]]:
    return {name: [percentile(one, part) for one in runs] for name, runs in found.items()}


ROW = Row(
    "latency",
    "commit to handled at 20 orders a second, p50 and p99",
    "within 2.5 of tuned `on_commit(task.delay)`; express no slower than the quickest durable peer",
    measure,
)
