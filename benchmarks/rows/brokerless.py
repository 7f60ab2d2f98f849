"""Without a broker: `outbox work` beside the peer whose relays also run the handlers themselves.

Both have one process for the latency, and two for the rates. The outbox wakes by LISTEN, as the
peer does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from benchmarks.ground import EFFECTS_PER_SECOND, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile, ratio
from benchmarks.peers import DOMAIN_EVENTS
from benchmarks.row import Row
from benchmarks.rows.latency import latencies
from benchmarks.rows.sustained import sustained
from benchmarks.sides import Side, local

T = TypeVar("T")


def measure(ground: Ground, quick: bool) -> Result:
    """Measure latency, drain and sustained rate, each side in turn."""
    if quick:
        return compare(ground, waits=80, events=2_000, count=600, repeats=1)
    return compare(ground, waits=300, events=10_000, count=3_000, repeats=2)


def compare(ground: Ground, *, waits: int, events: int, count: int, repeats: int) -> Result:
    """Return the figures of both, and the outbox against the peer."""
    one, two = local(processes=1), local(processes=2)
    peer, peers = (
        DOMAIN_EVENTS.side(),
        DOMAIN_EVENTS.side(*DOMAIN_EVENTS.plan.commands, *DOMAIN_EVENTS.plan.commands),
    )
    delays = in_turn(_each(latencies, ground, (one, peer), waits), repeats=repeats)
    drains = in_turn(_each(drained, ground, (two, peers), events), repeats=repeats)
    rates = in_turn(_each(sustained, ground, (two, peers), count), repeats=repeats)
    p50, p99 = ({name: [percentile(run, part) for run in runs] for name, runs in delays.items()}
                for part in (50, 99))  # fmt: skip
    mine, theirs = one.name, peer.name
    kinds = (("p50", p50, "ms"), ("p99", p99, "ms"), ("drain", drains, "events/s"),
             ("sustained", rates, "orders/s"))  # fmt: skip
    return Result(
        [
            Figure(f"{name}, {kind}", found[name], unit)
            for kind, found, unit in kinds
            for name in (mine, theirs)
        ],
        [
            Ratio("brokerless_p50_vs_peer", ratio(p50[mine], p50[theirs]), at_most=1),
            Ratio("brokerless_p99_vs_peer", ratio(p99[mine], p99[theirs]), at_most=1),
            Ratio("brokerless_drain_vs_peer", ratio(drains[mine], drains[theirs]), at_least=5),
            Ratio("brokerless_sustained_vs_peer", ratio(rates[mine], rates[theirs]), at_least=1.5),
        ],
        [f"The peer is {DOMAIN_EVENTS.name}. Both wake by LISTEN, and neither has a broker."],
    )


def drained(ground: Ground, side: Side, count: int) -> float:
    """Return the effects per second of events that were emitted before the processes start."""
    with ground.stage(side) as stage:
        stage.emit(count)
        ground.settle()
        stage.start_consumers()
        stage.wait_for_effects(count)
        return float(stage.value(EFFECTS_PER_SECOND))


def _each(
    measured: Callable[[Ground, Side, int], T], ground: Ground, sides: Sequence[Side], number: int
) -> dict[str, Callable[[], T]]:
    return {side.name: partial(measured, ground, side, number) for side in sides}


ROW = Row(
    "brokerless",
    "without a broker: latency with one process, rates with two",
    "latency at most that of the peer; drain 5 times and sustained 1.5 times as much",
    measure,
)
