"""The faults of a run with Patroni: of hosts, links, clocks and broker, and of its primary."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial

from tests.chaos.hosts.faults import HOSTS, SABOTAGE, desynchronize
from tests.chaos.hosts.patroni import PatroniDatabases
from tests.chaos.hosts.world import ETCD, HostsWorld
from tests.chaos.registry import Faults

PATRONI = Faults()
#: Seconds. A lease expires meanwhile.
_LONG = (20.0, 30.0)

for _group in HOSTS.groups.keys() - {"database"}:
    for _name in HOSTS.groups[_group]:
        PATRONI.add(_name, HOSTS.by_name[_name], _group, HOSTS.kinds[_name])


def _pair(world: HostsWorld) -> PatroniDatabases:
    assert isinstance(world.databases, PatroniDatabases)
    return world.databases


@PATRONI.fault("database", lane="servers", lasts=_LONG)
def kill_primary(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """A power cut of the primary's host. Nothing that was acknowledged is lost."""
    pair = _pair(world)
    lost = pair.ready_primary()
    if world.stack.environment.get("CHAOS_SABOTAGE") == SABOTAGE:
        desynchronize(world)
    world.timing.begin()
    pair.lose(lost, lost.host.kill)
    yield
    pair.take_back(lost)


@PATRONI.fault("database", lane="servers", lasts=_LONG)
def cut_primary(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """The primary's host runs, cut off from everybody."""
    pair = _pair(world)
    lost = pair.ready_primary()
    world.timing.begin()
    pair.lose(lost, lost.host.cut)
    yield
    pair.take_back(lost)


@PATRONI.fault("database", lane="servers", lasts=_LONG)
def deprive_primary(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """What the primary's host sends to etcd is lost. All others still reach the primary."""
    pair = _pair(world)
    lost = pair.ready_primary()
    world.timing.begin()
    pair.lose(lost, partial(_cut_from_etcd, world, lost.host.name))
    yield
    pair.take_back(lost)


def _cut_from_etcd(world: HostsWorld, name: str) -> None:
    for one in ETCD:
        world.network[name].cut_to(world.network[one])


@PATRONI.fault("database", lane="servers", lasts=(2.0, 6.0))
def switch_over(world: HostsWorld, _rng: random.Random) -> Iterator[None]:
    """Primary and standby change places by `patronictl switchover`."""
    pair = _pair(world)
    lost = pair.ready_primary()
    pair.switch_over(world.timing.begin)
    yield
    pair.take_back(lost)


@PATRONI.fault("database", lane="servers", lasts=_LONG)
def kill_asynchronous_primary(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """A power cut of a primary whose asynchronous standby lags by a second or two."""
    pair = _pair(world)
    lost = pair.ready_primary()
    pair.replicate(synchronously=False)
    pair.stop_replication()
    time.sleep(rng.uniform(0.5, 2.0))
    world.timing.begin()
    pair.lose_with_commits(lost)
    yield
    pair.take_back(lost, synchronously=False)


@PATRONI.fault("database", lane="servers", lasts=(4.0, 12.0))
def kill_etcd(world: HostsWorld, rng: random.Random) -> Iterator[None]:
    """A power cut of one of the three hosts of etcd. The other two go on."""
    host = world.network[rng.choice(ETCD)]
    host.kill()
    yield
    _pair(world).restart(host)
