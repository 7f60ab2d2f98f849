"""The faults: each is a context manager that breaks a part, and repairs it at its end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tests.chaos import mailbox, wiretap
from tests.chaos.proving import crashes
from tests.chaos.schedule import Kind
from tests.chaos.whole_shop import WholeShop

Fault = Callable[[WholeShop, random.Random], AbstractContextManager[None]]

BOTH = ("sqlite", "postgresql")

#: By name; `--faults` takes names, and groups of them.
FAULTS: dict[str, Fault] = {}
KINDS: dict[str, Kind] = {}
GROUPS: dict[str, list[str]] = {}
_databases: dict[str, tuple[str, ...]] = {}


def _add(name: str, fault: Fault, group: str, databases: tuple[str, ...], kind: Kind) -> None:
    FAULTS[name], KINDS[name], _databases[name] = fault, kind, databases
    GROUPS.setdefault(group, []).append(name)


def _fault(
    group: str,
    *,
    lane: str,
    lasts: tuple[float, float] = (0.0, 0.0),
    databases: tuple[str, ...] = BOTH,
) -> Callable[[Callable[[WholeShop, random.Random], Iterator[None]]], Fault]:
    def register(function: Callable[[WholeShop, random.Random], Iterator[None]]) -> Fault:
        fault = contextmanager(function)
        kind = Kind(lane=lane, shortest=lasts[0], longest=lasts[1])
        _add(function.__name__, fault, group, databases, kind)
        return fault

    return register


def chosen(wanted: str, *, database: str) -> dict[str, Kind]:
    """The kinds of faults that `--faults` names, as far as this database can have them.

    Raises KeyError for a name that there is not.
    """
    names: set[str] = set()
    for name in wanted.split(",") if wanted else GROUPS:
        names |= set(GROUPS.get(name) or [_known(name)])
    return {name: KINDS[name] for name in sorted(names) if database in _databases[name]}


def _known(name: str) -> str:
    if name not in FAULTS:
        raise KeyError(name)
    return name


# --- processes that are killed --------------------------------------------------------------------


@_fault("kill", lane="processes")
def kill_worker(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Kill a worker and its pool."""
    shop.kill(rng.choice(shop.names("worker")))
    yield


@_fault("kill", lane="processes")
def kill_worker_parent(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Kill only the parent. Its pool finishes its deliveries while the new worker runs."""
    shop.kill_pid(shop.pid(rng.choice(shop.names("worker"))))
    yield


@_fault("kill", lane="processes")
def kill_pool_child(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    children = shop.children(rng.choice(shop.names("worker")))
    shop.kill_pid(rng.choice(children) if children else None)
    yield


@_fault("kill", lane="processes")
def kill_relay(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    shop.kill("relay")
    yield


@_fault("kill", lane="processes")
def kill_beat(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    shop.kill("beat")
    yield


@_fault("kill", lane="processes")
def kill_web(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """A process of the web server, with the requests that it is answering."""
    children = shop.children("web")
    shop.kill_pid(rng.choice(children) if children else None)
    yield


# --- crash points ---------------------------------------------------------------------------------


@contextmanager
def _crash(point: str, shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """The next process that reaches the point dies there."""
    crashes.ask_for(shop.folder, point)
    yield
    shop.kills += not crashes.take_back(shop.folder, point)


for _point in crashes.ALL:
    _kind = Kind(lane="processes", shortest=0.5, longest=1.0)
    _add(f"crash_{_point}", partial(_crash, _point), "crash", BOTH, _kind)
# --- one too many ---------------------------------------------------------------------------------


@_fault("double", lane="processes", lasts=(4.0, 6.0))
def second_relay(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.beside("relay-extra", shop.relay_command("relay-extra")):
        yield


@_fault("double", lane="processes", lasts=(4.0, 6.0))
def second_beat(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.beside("beat-extra", shop.beat_command()):
        yield


# --- messages -------------------------------------------------------------------------------------


@_fault("messages", lane="processes", lasts=(0.5, 2.0))
def duplicated_messages(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Send recorded messages again, also old ones."""
    tap = shop.stack.broker.wiretap()
    with wiretap.listening(tap):
        yield
    tap.replay(rng)


@_fault("messages", lane="processes", lasts=(0.5, 1.0))
def reordered_messages(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Pause the workers until the queues are filled, and shuffle the queues."""
    with contextlib.ExitStack() as still:
        for name in shop.names("worker"):
            for pid in (shop.pid(name), *shop.children(name)):
                still.enter_context(shop.frozen(pid))
        yield
        shop.stack.broker.wiretap().shuffle(rng)


@_fault("poison", lane="processes")
def poison(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Emit an event that kills its worker."""
    (shop.folder / "poison").touch()
    yield


# --- the broker -----------------------------------------------------------------------------------


@_fault("broker", lane="surroundings")
def flush_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """FLUSHALL; with RabbitMQ, all queues are purged."""
    shop.stack.wipe_broker()
    shop.flushes += 1
    yield


@_fault("broker", lane="surroundings", lasts=(0.5, 3.0))
def stop_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Restart it with its files."""
    shop.stack.kill("broker")
    yield
    shop.stack.start_broker()
    shop.restarts += 1


@_fault("broker", lane="surroundings", lasts=(0.5, 3.0))
def empty_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Restart it without data."""
    shop.stack.kill("broker")
    yield
    shop.stack.empty_broker()
    shop.stack.start_broker()
    shop.restarts += 1
    shop.flushes += 1


@_fault("broker", lane="surroundings", lasts=(1.0, 7.0))
def freeze_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """SIGSTOP: connections stay open and nothing answers."""
    with shop.standing_still("broker"):
        yield


@_fault("broker", lane="surroundings")
def cut_broker_clients(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """The broker closes all connections."""
    shop.stack.broker.cut_clients()
    yield


# --- the database ---------------------------------------------------------------------------------


@_fault("database", lane="surroundings", databases=("postgresql",))
def cut_database(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """pg_terminate_backend, all of them."""
    shop.stack.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    yield


@_fault("database", lane="surroundings", lasts=(0.2, 1.5), databases=("postgresql",))
def restart_database(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """SIGQUIT, as a crash: it recovers from its write-ahead log."""
    assert shop.postgres
    assert shop.postgres.pid
    os.kill(shop.postgres.pid, signal.SIGQUIT)
    yield
    shop.postgres.stop()
    shop.postgres.start()
    shop.restarts += 1


@_fault("database", lane="surroundings", lasts=(0.5, 2.0), databases=("sqlite",))
def lock_database(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Another connection holds the only write lock."""
    path = shop.stack.database_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as lite:
        lite.execute("BEGIN IMMEDIATE")
        yield
        lite.execute("ROLLBACK")


# --- outside --------------------------------------------------------------------------------------


@_fault("outside", lane="surroundings", lasts=(0.7, 2.0))
def freeze_bank(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Requests time out, and the bank executes them afterwards."""
    with shop.frozen(shop.bank.pid):
        yield


@_fault("outside", lane="surroundings", lasts=(1.0, 3.0))
def stop_mail(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.down("mailbox"):
        yield


@_fault("outside", lane="surroundings", lasts=(1.5, 3.0))
def forgetful_mail(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """The mail server accepts a message, and answers too late."""
    flag = shop.mail_folder / mailbox.FORGETFUL
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()
