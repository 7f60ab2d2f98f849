"""The faults of hosts, links, clocks and servers. `tests/chaos/registry.py` defines a fault."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from outbox.deliveries import failpoints
from tests.chaos.hosts import clocks, reports
from tests.chaos.hosts.databases import Databases
from tests.chaos.hosts.world import WEB, WORKERS, HostsWorld
from tests.chaos.proving import crashes
from tests.chaos.registry import Faults
from tests.chaos.schedule import Kind

HOSTS = Faults()
#: Where a host is lost: in a relay's pass, in a handler, and before a COMMIT of worker and web.
POINTS = (
    failpoints.BEFORE_CLAIM,
    failpoints.AFTER_CLAIM,
    failpoints.BEFORE_RECEIPT,
    failpoints.BEFORE_COMMIT,
    crashes.WEB_COMMIT,
)
#: At these the COMMIT arrives, and its answer is lost.
COMMITS = (failpoints.BEFORE_COMMIT, crashes.WEB_COMMIT)
#: Seconds in which a process has to reach a point, and in which a COMMIT arrives.
REACHED_WITHIN, ARRIVES_WITHIN = 20.0, 0.5
#: Seconds in which a customer has the answer to a committed order.
ANSWERED_WITHIN = 5.0
#: Of synchronous replication: acknowledged commits must not be lost.
SABOTAGE = "unsynchronized"


# --- links and hosts of the application -----------------------------------------------------------


@HOSTS.fault("links", lane="hosts", lasts=(4.0, 12.0))
def cut_host(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """No packet of the host passes, and nobody gets an error."""
    host = world.network[rng.choice((*WEB, *WORKERS))]
    host.cut()
    yield
    host.mend()


@HOSTS.fault("links", lane="hosts", lasts=(4.0, 12.0))
def one_way(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """What the host sends to the database or to the broker is lost. Their packets arrive."""
    host = world.network[rng.choice((*WEB, *WORKERS))]
    broker = world.brokers.primary() or world.network["broker-1"]
    host.cut_to(rng.choice((world.databases.primary.host, broker)))
    yield
    host.mend()


@HOSTS.fault("links", lane="hosts", lasts=(3.0, 8.0))
def lost_packets(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    host = world.network[rng.choice((*WEB, *WORKERS))]
    host.lose(rng.choice((5, 15, 30)))
    yield
    host.mend()


@HOSTS.fault("links", lane="hosts", lasts=(3.0, 8.0))
def slow_link(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    host = world.network[rng.choice((*WEB, *WORKERS))]
    host.slow_down(rng.choice((64, 256)))
    yield
    host.mend()


@HOSTS.fault("kill", lane="hosts", lasts=(2.0, 8.0))
def kill_host(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """A power cut. Its processes are started again at the end."""
    name = rng.choice((*WEB, *WORKERS))
    world.kill_host(name)
    yield
    world.restart_host(name)


@contextmanager
def _lose_at(point: str, world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """Lose the host of the next process that reaches a point, at that point."""
    crashes.ask_to_hold(world.folder, point)
    name = _holder(world, point)
    if name:
        world.timing.begin()
        if point in COMMITS:
            world.network[name].deafen()
            crashes.let_go(world.folder, point)
            time.sleep(ARRIVES_WITHIN)
        world.kill_host(name)
    crashes.let_go(world.folder, point)
    yield
    if name:
        world.restart_host(name)


def _holder(world: HostsWorld, point: str) -> str:
    end = time.monotonic() + REACHED_WITHIN
    while not (name := crashes.holder(world.folder, point)) and time.monotonic() < end:
        time.sleep(0.02)
    return name


for _point in POINTS:
    HOSTS.add(f"lose_host_{_point}", partial(_lose_at, _point), "points",
              Kind(lane="hosts", shortest=2.0, longest=6.0))  # fmt: skip


@HOSTS.fault("clocks", lane="hosts", lasts=(4.0, 12.0))
def wrong_clock(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """The clock of a host jumps by minutes, and back."""
    name = rng.choice((*WEB, *WORKERS))
    world.set_clock(name, rng.choice((-300, -90, 90, 300)))
    yield
    world.set_clock(name, 0)


@HOSTS.fault("reports", lane="hosts")
def isolate_workers(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """Both hosts of workers are cut off until metrics, health and doctor report it.

    They are well before, and again after, without a restart.
    """
    reports.wait_for(world, WORKERS, well=True)
    world.timing.begin()
    for name in WORKERS:
        world.network[name].cut()
    try:
        reports.wait_for(world, WORKERS, well=False)
    finally:
        for name in WORKERS:
            world.network[name].mend()
    yield
    reports.wait_for(world, WORKERS, well=True)


# --- servers --------------------------------------------------------------------------------------


def _pair(world: HostsWorld) -> Databases:
    assert isinstance(world.databases, Databases)
    return world.databases


@HOSTS.fault("database", lane="servers", lasts=(2.0, 6.0))
def lose_synchronous_primary(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """Fail over to a synchronous standby. Nothing that was acknowledged is lost."""
    pair = _pair(world)
    if world.stack.environment.get("CHAOS_SABOTAGE") == SABOTAGE:
        desynchronize(world)
        world.timing.begin()
    pair.fail_over(killed=rng.random() < 0.5, is_loss_excused=False)
    yield
    pair.take_back()


def desynchronize(world: HostsWorld) -> None:
    """Stop replication without a word, until the primary has answered for orders of its own."""
    pair, orders = world.databases, "SELECT count(*) FROM orders_order"
    pair.replicate(synchronously=False)
    pair.stop_replication()
    before = pair.standby.query(orders)
    world.wait_until(lambda: pair.primary.query(orders) > before, "an order is on one host only")
    time.sleep(ANSWERED_WITHIN)


@HOSTS.fault("database", lane="servers", lasts=(2.0, 6.0))
def lose_asynchronous_primary(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """Fail over to a standby that lags by a second or two."""
    pair = _pair(world)
    pair.replicate(synchronously=False)
    pair.stop_replication()
    time.sleep(rng.uniform(0.5, 2.0))
    world.timing.begin()
    pair.fail_over(killed=rng.random() < 0.5, is_loss_excused=True)
    yield
    pair.take_back()


@HOSTS.fault("database", lane="servers", lasts=(1.0, 4.0))
def cut_standby(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """Commits wait for the synchronous standby."""
    host = world.databases.standby.host
    host.cut()
    yield
    host.mend()


@HOSTS.fault("broker", lane="servers", lasts=(5.0, 9.0))
def lose_broker(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """The host of Valkey's primary or a node of RabbitMQ is cut off or killed, and comes back.

    Sentinel promotes the replica. A node that is cut off from the others stops its work.
    """
    lost = world.brokers.primary() or world.network["broker-1"]
    killed = rng.random() < 0.5
    (lost.kill if killed else lost.cut)()
    yield
    world.wait_until(
        lambda: world.brokers.primary() not in (None, lost), "another broker takes over"
    )
    lost.mend()
    if killed:
        world.brokers.restart(lost)
    world.wait_until(world.brokers.has_replica, "the lost broker is back")


def usable(name: str) -> bool:
    """Return whether this machine can have the fault."""
    return name not in HOSTS.groups["clocks"] or clocks.library() is not None
