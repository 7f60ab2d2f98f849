"""Machines and processes for a rate of orders of the shop, and the run of one of their shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import simpy

from benchmarks.harness import percentile

from .costs import DATABASE_SHARE, Costs
from .system import PACE, Layout, Machine, Seen, Shard
from .workload import SHOP, Handler, Workload

#: The part of a processor or process that is planned to be busy.
PLANNED = 0.6
#: Limits of one database server. Assumptions: measure yours.
WAL_LIMIT, MOST_CORES = 100e6, 32
#: Seconds without a primary during a failover. An assumption.
FAILOVER = 22.0
#: Connections of a relay.
_OF_RELAY = 3


@dataclass(frozen=True)
class Fleet:
    """The machines and processes of each shard.

    Attributes:
        rate: orders per second of each shard.
        shards: number of databases, each with all other processes.
        bounds: number of shards that each limit of a shard requires.
        database_cores, web_cores, worker_cores: of each shard. The relay has one.
        web_processes: of each shard.
        processes: worker processes of each shard by queue.
        wal: bytes per second of each shard.
    """

    rate: float
    shards: int
    bounds: Mapping[str, float]
    database_cores: int
    web_cores: int
    worker_cores: int
    web_processes: int
    processes: Mapping[str, int]
    wal: float

    @property
    def connections(self) -> int:
        """Connections to each database, without PgBouncer."""
        return self.web_processes + sum(self.processes.values()) + _OF_RELAY


@dataclass(frozen=True)
class Found:
    """Figures of the run of one shard; see `system.Seen`.

    Attributes:
        p50, p99: seconds from an event's commit to that of its handler.
        complete_p50, complete_p99: seconds from an order's commit until it is ready to ship.
        use: busy part of each resource.
    """

    p50: float
    p99: float
    complete_p50: float
    complete_p99: float
    use: Mapping[str, float]


def fleet_for(orders_a_minute: float, costs: Costs, *, wal_of_order: float) -> Fleet:
    """Return the fleet on which each resource is busy for about `PLANNED` of its time.

    Shards are added where the log, the cores of the largest database server, or the one relay of a
    shard would be busier.

    Args:
        wal_of_order: bytes of the database's log for one order.
    """
    rate, of_order = orders_a_minute / 60, _seconds_of_order(costs, SHOP)
    # Under load a relay runs a pass in each pause, whatever the number of its events.
    for_events = PLANNED - costs.look * (1 - DATABASE_SHARE) / PACE
    bounds = {
        "log": rate * wal_of_order / WAL_LIMIT,
        "database cores": rate * of_order["database"] / (MOST_CORES * PLANNED),
        "relay": rate * (of_order["relay"] + of_order["messages"]) / for_events,
        "relay, if messages were free": rate * of_order["relay"] / for_events,
    }
    shards = math.ceil(max(bounds.values()))
    each = rate / shards

    def needed(seconds: float) -> int:
        return max(1, math.ceil(each * seconds / PLANNED))

    return Fleet(
        rate=each,
        shards=shards,
        bounds=bounds,
        database_cores=needed(of_order["database"]),
        web_cores=needed(of_order["web"]),
        worker_cores=needed(of_order["workers"]),
        web_processes=needed(of_order["web process"]),
        processes={queue: needed(of_order[queue]) for queue in SHOP.queues},
        wal=each * wal_of_order,
    )


def run(
    fleet: Fleet, costs: Costs, *, seconds: float, load: float = 1.0, failover: bool = False
) -> tuple[Found, Seen]:
    """Run one shard.

    Args:
        seconds: simulated time.
        load: the rate as a multiple of the planned one.
        failover: the database has no primary for `FAILOVER` after a fifth of the time.
    """
    env = simpy.Environment()
    layout = Layout(
        web=Machine(env, fleet.web_cores),
        relay=Machine(env, 1),
        workers=Machine(env, fleet.worker_cores),
        database=Machine(env, fleet.database_cores),
        web_processes=fleet.web_processes,
        processes=fleet.processes,
    )
    begin = seconds / 5
    outage = (begin, begin + FAILOVER) if failover else None
    shard = Shard(env, layout, SHOP, costs, rate=fleet.rate * load, outage=outage)
    env.run(until=seconds)
    seen = shard.seen
    found = Found(
        p50=percentile(seen.latencies, 50),
        p99=percentile(seen.latencies, 99),
        complete_p50=percentile(seen.completions, 50),
        complete_p99=percentile(seen.completions, 99),
        use=_use(fleet, layout, seen, seconds, load),
    )
    return found, seen


def _use(fleet: Fleet, layout: Layout, seen: Seen, seconds: float, load: float) -> dict[str, float]:
    machines = {"database": layout.database, "web": layout.web, "workers": layout.workers}
    use = {f"{name} cores": one.busy / one.cores / seconds for name, one in machines.items()}
    use["relay"] = layout.relay.busy / seconds
    use["log of the database"] = fleet.wal * load / WAL_LIMIT
    for queue, busy in seen.worker_busy.items():
        use[f"processes of {queue}"] = busy / seconds / fleet.processes[queue]
    return dict(sorted(use.items(), key=lambda one: -one[1]))


def _seconds_of_order(costs: Costs, workload: Workload) -> dict[str, float]:
    """Return the busy seconds that one order costs each machine and each queue's processes."""
    _events, calls = workload.of_one_order()
    each = dict.fromkeys(workload.queues, 0.0)
    for call in calls:
        each[call.queue] += call.wait + _work(costs, call)
    transport = len(calls) * costs.transport / 2
    work = sum(_work(costs, call) for call in calls) - transport
    share = DATABASE_SHARE
    # A handler that waits for another system gets one delivery per message; others share messages.
    sent = sum(costs.transport / 2 for call in calls if call.wait)
    relay = len(calls) * costs.event
    return each | {
        "web": costs.view + costs.order * (1 - share),
        "web process": costs.view + costs.view_database + costs.order,
        "workers": work * (1 - share) + transport,
        "relay": relay * (1 - share),
        "messages": sent,
        "database": costs.view_database + (costs.order + work + relay) * share,
    }


def _work(costs: Costs, call: Handler) -> float:
    """Return a delivery's processor time, if each message has only one."""
    return costs.message + costs.transport / 2 + costs.delivery + call.cpu
