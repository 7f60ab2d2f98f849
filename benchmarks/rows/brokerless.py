"""Without a broker: `outbox work` beside peers whose processes also take work from PostgreSQL.

Each has one process for the latency, and two for the rates. Our processes and those of the first
two peers wake by LISTEN, those of the third poll.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from benchmarks.ground import EFFECTS_PER_SECOND, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.peers import DOMAIN_EVENTS, OX, PROCRASTINATE, Peer
from benchmarks.row import Row
from benchmarks.rows.latency import latencies
from benchmarks.rows.sustained import sustained
from benchmarks.sides import Side, local

T = TypeVar("T")

PEERS = (DOMAIN_EVENTS, PROCRASTINATE, OX)


def measure(ground: Ground, quick: bool) -> Result:
    """Measure latency, drain and sustained rate, each side in turn."""
    if quick:
        return compare(ground, waits=80, events=2_000, count=600, repeats=1)
    return compare(ground, waits=300, events=10_000, count=3_000, repeats=5)


def compare(ground: Ground, *, waits: int, events: int, count: int, repeats: int) -> Result:
    """Return the figures of all sides, and the outbox against the peers."""
    mine = local(processes=1).name
    one = (local(processes=1), *(peer.side() for peer in PEERS))
    two = (local(processes=2), *(_twice(peer) for peer in PEERS))
    delays = in_turn(_each(latencies, ground, one, waits), repeats=repeats)
    drains = in_turn(_each(drained, ground, two, events), repeats=repeats)
    rates = in_turn(_each(sustained, ground, two, count), repeats=repeats)
    p50 = {name: [percentile(run, 50) for run in runs] for name, runs in delays.items()}
    p99 = {name: [percentile(run, 99) for run in runs] for name, runs in delays.items()}
    kinds = [("p50", p50, "ms"), ("p99", p99, "ms")]
    kinds += [("drain", drains, "events/s"), ("sustained", rates, "orders/s")]
    return Result(
        [
            Figure(f"{name}, {kind}", values, unit)
            for kind, found, unit in kinds
            for name, values in found.items()
        ],
        [
            Ratio.worst_of("brokerless_p50_vs_best", _sides(p50, mine), at_most=1),
            Ratio.worst_of("brokerless_p99_vs_best", _sides(p99, mine), at_most=1),
            Ratio.worst_of("brokerless_drain_vs_best", _sides(drains, mine), at_least=5),
            Ratio.worst_of("brokerless_sustained_vs_best", _sides(rates, mine), at_least=1.5),
        ],
        [
            f"The peers are {', '.join(peer.name for peer in PEERS)}. The last one polls every "
            "0.05 s, the others wake by LISTEN. None has a broker. Each ratio is against the best "
            "peer of its kind."
        ],
    )


def _twice(peer: Peer) -> Side:
    return peer.side(*peer.plan.commands, *peer.plan.commands)


def _sides(
    found: Mapping[str, Sequence[float]], mine: str
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Return the repeats of ours and of each peer."""
    return [(found[mine], values) for name, values in found.items() if name != mine]


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
    "latency at most that of the quickest peer; drain 5 and sustained 1.5 times the best peer",
    measure,
)
