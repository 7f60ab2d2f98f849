"""Peers: the other Django outboxes, measured as in the rows `sustained` and `latency`.

Their relays, where there is one to a broker, are in the row `relay`.
"""

from __future__ import annotations

from functools import partial

from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.peers import CELERY_OUTBOX, DOMAIN_EVENTS, JAIMINHO
from benchmarks.row import Row
from benchmarks.rows.latency import latencies
from benchmarks.rows.sustained import sustained
from benchmarks.sides import ours


def measure(ground: Ground, quick: bool) -> Result:
    """Measure both, each side in turn."""
    if quick:
        return compare(ground, count=600, waits=40, repeats=1)
    return compare(ground, count=3_000, waits=100, repeats=5)


def compare(ground: Ground, *, count: int, waits: int, repeats: int) -> Result:
    """Return each side's orders a second, and its latency at 20 a second."""
    two_relays = DOMAIN_EVENTS.side(*DOMAIN_EVENTS.plan.commands, *DOMAIN_EVENTS.plan.commands)
    through_celery = (ours(), CELERY_OUTBOX.side(), JAIMINHO.side())
    emitted = {side.name: side for side in (*through_celery, two_relays)}
    waiting = {side.name: side for side in through_celery}
    rates = in_turn(
        {name: partial(sustained, ground, side, count) for name, side in emitted.items()},
        repeats=repeats,
    )
    delays = in_turn(
        {name: partial(latencies, ground, side, waits) for name, side in waiting.items()},
        repeats=repeats,
    )
    best = max((name for name in rates if name != "outbox"), key=lambda name: sum(rates[name]))
    figures = [Figure(f"{name}, sustained", values, "orders/s") for name, values in rates.items()]
    for name, runs in delays.items():
        figures.append(Figure(f"{name}, p50", [percentile(run, 50) for run in runs], "ms"))
    return Result(
        figures,
        [Ratio.of("sustained_vs_best_peer", rates["outbox"], rates[best])],
        [
            f"The best peer at a sustained rate is {best}. {CELERY_OUTBOX.name} looks every 0.05 s "
            f"and {JAIMINHO.name} every 0.1 s, each with a tuned worker of two processes; "
            f"{DOMAIN_EVENTS.name} has two relays that run the handler themselves, and its "
            "latency is in the row `latency`."
        ],
    )


ROW = Row(
    "peers",
    "the other Django outboxes, emitting and handling at once",
    "none of its own; the rows `relay` and `latency` have the targets against peers",
    measure,
)
