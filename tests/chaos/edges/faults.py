"""The faults at the edges. `tests/chaos/registry.py` says what a fault is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from outbox.deliveries import failpoints
from tests.chaos.common_faults import add_common_faults, add_crashes
from tests.chaos.edges import systems
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.system import System
from tests.chaos.edges.world import RECEIVERS, EdgeWorld
from tests.chaos.registry import Faults
from tests.chaos.schedule import Kind
from tests.servers.server import Server

EDGES = Faults()

#: Seconds between two faults of one lane. Processes need time to publish anything in between.
GAPS = {"processes": (2.0, 5.0), "surroundings": (2.0, 5.0), "answers": (0.3, 0.8)}
#: Seconds. Reaching it is a failure.
REPAIR = 30.0


# --- processes ------------------------------------------------------------------------------------


def _add_process(kind: str) -> None:
    @contextmanager
    def kill(world: EdgeWorld, rng: random.Random) -> Iterator[None]:
        world.kill(rng.choice(world.names(kind)))
        yield

    @contextmanager
    def freeze(world: EdgeWorld, rng: random.Random) -> Iterator[None]:
        with world.frozen_process(rng.choice(world.names(kind))):
            yield

    # A receiver is frozen for longer than the session of its Kafka group, which rebalances then.
    longest = 9.0 if kind == "receiver" else 6.0
    EDGES.add(f"kill_{kind}", kill, "kill", Kind(lane="processes"))
    frozen = Kind(lane="processes", shortest=1.0, longest=longest)
    EDGES.add(f"freeze_{kind}", freeze, "freeze", frozen)


for _kind in ("worker", "relay", "receiver", "web", "emitter"):
    _add_process(_kind)


@EDGES.fault("rebalance", lane="processes", lasts=(3.0, 7.0))
def third_receiver(world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    """A receiver joins and leaves: the groups of the sources rebalance twice."""
    with world.guest_receiver():
        yield


@EDGES.fault("rebalance", lane="processes", lasts=(2.0, 4.0))
def one_receiver(world: EdgeWorld, rng: random.Random) -> Iterator[None]:
    """A receiver is away for a while."""
    with world.down(rng.choice(RECEIVERS)):
        yield


@EDGES.fault("rebalance", lane="processes", lasts=(4.0, 6.0))
def second_relay(world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    with world.beside("relay-extra", world.relay_command("relay-extra")):
        yield


@EDGES.fault("poison", lane="processes")
def poison(world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    """Emit an event that is too large for some systems."""
    (world.folder / "poison").touch()
    yield


#: The points that sinks and sources pass through.
POINTS = (
    *(failpoints.AFTER_CLAIM, failpoints.AFTER_START, failpoints.BEFORE_COMMIT),
    *(failpoints.AFTER_RECEIPT, failpoints.BEFORE_STORE, failpoints.AFTER_STORE),
)
add_common_faults(EDGES)
add_crashes(EDGES, POINTS, longest=1.5)


# --- servers --------------------------------------------------------------------------------------


@contextmanager
def _kill_server(name: str, world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    server = _server(world, name)
    if server is None or server.given:
        yield
        return
    world.kills += 1
    with server.down():
        yield
    world.restarts += 1


@contextmanager
def _freeze_server(name: str, world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    server = _server(world, name)
    if server is None or server.given:
        yield
        return
    world.freezes += 1
    with server.frozen():
        yield


@EDGES.fault("server", lane="surroundings", lasts=(0.5, 2.0))
def stop_broker(world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    """Restart Celery's broker."""
    world.stack.kill("broker")
    yield
    world.stack.start_broker()
    world.restarts += 1


@EDGES.fault("server", lane="surroundings")
def flush_broker(world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    """FLUSHALL of Celery's broker."""
    world.stack.wipe_broker()
    yield


# --- answers --------------------------------------------------------------------------------------


@contextmanager
def _distort(name: str, mode: Mode, world: EdgeWorld, _rng: random.Random) -> Iterator[None]:
    system = next((one for one in world.systems if one.name == name), None)
    if system is None:
        yield
        return
    with suppress(Exception):  # its server may be down or frozen by another fault
        system.stand.put(mode)
    try:
        yield
    finally:
        repaired(lambda: system.stand.put(Mode.PASS))


def repaired(repair: Callable[[], None]) -> None:
    """Repair a part, again and again while its server is down or frozen by another fault."""
    until = time.monotonic() + REPAIR
    while True:
        try:
            repair()
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def _add_system(system: type[System]) -> None:
    name = system.name
    if system is not systems.Http:
        frozen = Kind(lane="surroundings", shortest=1.0, longest=4.0)
        EDGES.add(f"freeze_{name}", partial(_freeze_server, name), "server", frozen)
        if system.keeps_data:
            down = Kind(lane="surroundings", shortest=0.5, longest=2.0)
            EDGES.add(f"kill_{name}", partial(_kill_server, name), "server", down)
    for mode in system.modes:
        lasting = Kind(lane="answers", shortest=1.5, longest=5.0)
        EDGES.add(f"{mode}_{name}", partial(_distort, name, mode), str(mode), lasting)


for _system in systems.ALL:
    _add_system(_system)


def _server(world: EdgeWorld, name: str) -> Server | None:
    return next((one.server for one in world.systems if one.name == name), None)
