"""Runs of the model: on the one machine of the benchmarks, and on a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import simpy

from benchmarks.harness import percentile

from .costs import Costs
from .system import Layout, Machine, Seen, Shard
from .workload import ONE_HANDLER

#: The machine of the benchmarks, on which all processes run. Its worker has two processes.
CORES, WORKER_PROCESSES = 2, 2
#: Orders before those that count, as in the row `latency`.
WARM_UP = 20


@dataclass(frozen=True)
class Figures:
    """Orders per second, and the latency of a delivery in milliseconds."""

    throughput: float
    p50: float
    p99: float


def one_machine(costs: Costs, *, rate: float, count: int, warm_up: int = WARM_UP) -> Figures:
    """Run the project of the benchmarks on its machine.

    Args:
        rate: orders per second of one producer; 0: as fast as it can.
        count: number of orders after the warm-up.
        warm_up: number of orders before.
    """
    seen = _run(costs, rate=rate, count=warm_up + count)
    milliseconds = [one * 1000 for one in seen.latencies[warm_up:]]
    took = seen.last - (seen.first or 0.0)
    return Figures(
        throughput=len(seen.latencies) / took,
        p50=percentile(milliseconds, 50),
        p99=percentile(milliseconds, 99),
    )


def drain_rate(costs: Costs, *, events: int) -> float:
    """Return the deliveries per second of a backlog that is stored before the run."""
    seen = _run(costs, rate=1, count=0, backlog=events)
    return (events - 1) / (seen.last - (seen.first_effect or 0.0))


def calibrated(costs: Costs, *, drain: float, p50: float) -> Costs:
    """Return costs with which the model has a measured drain rate and latency.

    The row `hops` measures a single process without a broker. So two costs are chosen here:
    `delivery` by the drain of two processes, `cold` by the latency at 20 orders per second.

    Args:
        drain: measured deliveries per second.
        p50: measured median at 20 orders per second, in milliseconds.
    """
    measured = costs.delivery
    costs = _slowest_that_is_too_fast(
        lambda factor: replace(costs, delivery=measured * factor),
        lambda tried: drain_rate(tried, events=8_000) > drain,
        low=0.25,
        high=4.0,
    )
    return _slowest_that_is_too_fast(
        lambda factor: replace(costs, cold=factor),
        lambda tried: one_machine(tried, rate=20, count=100).p50 < p50,
        low=1.0,
        high=8.0,
    )


def _slowest_that_is_too_fast(
    having: Callable[[float], Costs],
    is_too_fast: Callable[[Costs], bool],
    *,
    low: float,
    high: float,
) -> Costs:
    """Find the factor at which the model is as fast as the machine, by bisection."""
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_fast(having(middle)) else (low, middle)
    return having(low)


def _run(costs: Costs, *, rate: float, count: int, backlog: int = 0) -> Seen:
    env = simpy.Environment()
    machine = Machine(env, CORES)
    layout = Layout(
        web=machine,
        relay=machine,
        workers=machine,
        database=machine,
        web_processes=1,
        processes={"effects": WORKER_PROCESSES},
    )
    shard = Shard(env, layout, ONE_HANDLER, costs, rate=rate, count=count, is_random=False)
    shard.add_backlog(backlog)
    wanted = count + backlog
    while shard.seen.deliveries < wanted:
        env.run(until=env.now + 0.1)
    return shard.seen
