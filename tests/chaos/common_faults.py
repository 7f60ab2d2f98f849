"""The faults that both kinds of run have: processes, crash points, the database."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from tests.chaos.proving import crashes
from tests.chaos.registry import Faults
from tests.chaos.schedule import Kind
from tests.chaos.supervisor import Supervisor


def add_common_faults(faults: Faults) -> None:
    """Register the faults of processes and of the database."""
    faults.fault("kill", lane="processes")(kill_pool_child)
    faults.fault("database", lane="surroundings", databases=("postgresql",))(cut_database)
    locking = faults.fault("database", lane="surroundings", lasts=(0.5, 2.0), databases=("sqlite",))
    locking(lock_database)


def add_crashes(faults: Faults, points: Iterable[str], *, longest: float) -> None:
    """Register a fault for each fail point."""
    for point in points:
        kind = Kind(lane="processes", shortest=0.5, longest=longest)
        faults.add(f"crash_{point}", partial(_crash, point), "crash", kind)


@contextmanager
def _crash(point: str, world: Supervisor, _rng: random.Random) -> Iterator[None]:
    """The next process that reaches the point dies there."""
    crashes.ask_for(world.stack.folder, point)
    yield
    world.kills += not crashes.take_back(world.stack.folder, point)


def kill_pool_child(world: Supervisor, rng: random.Random) -> Iterator[None]:
    """Kill a child of a worker, with the calls that it has in hand."""
    children = world.children(rng.choice(world.names("worker")))
    world.kill_pid(rng.choice(children) if children else None)
    yield


def cut_database(world: Supervisor, _rng: random.Random) -> Iterator[None]:
    """pg_terminate_backend, all of them."""
    world.stack.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    yield


def lock_database(world: Supervisor, _rng: random.Random) -> Iterator[None]:
    """Another connection holds the only write lock."""
    path = world.stack.database_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as lite:
        lite.execute("BEGIN IMMEDIATE")
        yield
        lite.execute("ROLLBACK")
