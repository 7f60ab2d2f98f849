"""Machines and processes for a rate of orders of the shop, and the run of one of their shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import simpy

from benchmarks.harness import percentile

from .costs import DATABASE_SHARE, Costs
from .system import Layout, Machine, Seen, Shard
from .workload import SHOP, Handler, Workload

#: The part of a processor or process that is planned to be busy.
PLANNED = 0.6
#: Limits of one database server. Assumptions: measure yours.
WAL_LIMIT, MOST_CORES = 100e6, 32
#: Seconds without a primary during a failover by Patroni.
FAILOVER = 22.0


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
        """Connections to each database, without PgBouncer: two for each relay."""
        return self.web_processes + sum(self.processes.values()) + 2


@dataclass(frozen=True)
class Found:
    """Figures of the run of one shard; see `system.Seen`.

    Attributes:
        p50, p99: seconds from an event's commit to that of its handler.
        complete_p50, complete_p99: seconds from an order's commit until it is ready to ship.
        use: busy part of each resource.
        drained: seconds after a failover until the backlog is as before; None: not in this run.
    """

    p50: float
    p99: float
    complete_p50: float
    complete_p99: float
    use: Mapping[str, float]
    drained: float | None = None


def fleet_for(orders_a_minute: float, costs: Costs, *, wal_of_order: float) -> Fleet:
    """Return the fleet on which each resource is busy for about `PLANNED` of its time.

    Shards are added where the log, the cores of the largest database server, or the one relay of a
    shard would be busier.

    Args:
        wal_of_order: bytes of the database's log for one order.
    """
    rate, of_order = orders_a_minute / 60, _seconds_of_order(costs, SHOP)
    bounds = {
        "log": rate * wal_of_order / WAL_LIMIT,
        "database cores": rate * of_order["database"] / (MOST_CORES * PLANNED),
        "relay": rate * of_order["relay"] / PLANNED,
    }
    shards = math.ceil(max(bounds.values()))
    # A third more, so that the load of a shard that is being restored fits into the others.
    shards = math.ceil(shards * 4 / 3) if shards > 1 else 1
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
        drained=_drained(seen, outage) if outage else None,
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


def _drained(seen: Seen, outage: tuple[float, float]) -> float | None:
    """Return the seconds from the end of an outage until the backlog is as before it."""
    before = max(owed for at, owed in seen.backlog if 1 < at < outage[0])
    later = (at for at, owed in seen.backlog if at >= outage[1] and owed <= before)
    end = next(later, None)
    return None if end is None else end - outage[1]


def _seconds_of_order(costs: Costs, workload: Workload) -> dict[str, float]:
    """Return the busy seconds that one order costs each machine and each queue's processes."""
    _events, calls = workload.of_one_order()
    each = dict.fromkeys(workload.queues, 0.0)
    for call in calls:
        each[call.queue] += call.wait + _work(costs, call)
    work = sum(_work(costs, call) for call in calls)
    share = DATABASE_SHARE
    # A handler that waits for another system gets one delivery per message; others share messages.
    sent = sum(costs.transport / 2 for call in calls if call.wait)
    relay = len(calls) * costs.event
    return each | {
        "web": costs.view + costs.order * (1 - share),
        "web process": costs.view + costs.order,
        "workers": work * (1 - share),
        "relay": relay * (1 - share) + sent,
        "database": (costs.order + work + relay) * share,
    }


def _work(costs: Costs, call: Handler) -> float:
    """Return a delivery's processor time, if each message has only one."""
    return costs.message + costs.transport + costs.delivery + call.cpu
