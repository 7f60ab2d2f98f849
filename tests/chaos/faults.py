"""The faults of the whole shop. `registry.py` says what a fault is."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator

from tests.chaos import mailbox, wiretap
from tests.chaos.common_faults import add_common_faults, add_crashes
from tests.chaos.proving import crashes
from tests.chaos.registry import Faults
from tests.chaos.whole_shop import WholeShop

#: Those of the whole shop.
SHOP = Faults()
add_common_faults(SHOP)
add_crashes(SHOP, crashes.ALL, longest=1.0)


# --- processes that are killed --------------------------------------------------------------------


@SHOP.fault("kill", lane="processes")
def kill_worker(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Kill a worker and its pool."""
    shop.kill(rng.choice(shop.names("worker")))
    yield


@SHOP.fault("kill", lane="processes")
def kill_worker_parent(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Kill only the parent. Its pool finishes its deliveries while the new worker runs."""
    shop.kill_pid(shop.pid(rng.choice(shop.names("worker"))))
    yield


@SHOP.fault("kill", lane="processes")
def kill_relay(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    shop.kill("relay")
    yield


@SHOP.fault("kill", lane="processes")
def kill_beat(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    shop.kill("beat")
    yield


@SHOP.fault("kill", lane="processes")
def kill_web(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """A process of the web server, with the requests that it is answering."""
    children = shop.children("web")
    shop.kill_pid(rng.choice(children) if children else None)
    yield


# --- one too many ---------------------------------------------------------------------------------


@SHOP.fault("double", lane="processes", lasts=(4.0, 6.0))
def second_relay(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.beside("relay-extra", shop.relay_command("relay-extra")):
        yield


@SHOP.fault("double", lane="processes", lasts=(4.0, 6.0))
def second_beat(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.beside("beat-extra", shop.beat_command()):
        yield


# --- messages -------------------------------------------------------------------------------------


@SHOP.fault("messages", lane="processes", lasts=(0.5, 2.0))
def duplicated_messages(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Send recorded messages again, also old ones."""
    tap = shop.stack.broker.wiretap()
    with wiretap.listening(tap):
        yield
    tap.replay(rng)


@SHOP.fault("messages", lane="processes", lasts=(0.5, 1.0))
def reordered_messages(shop: WholeShop, rng: random.Random) -> Iterator[None]:
    """Pause the workers until the queues are filled, and shuffle the queues."""
    with contextlib.ExitStack() as still:
        for name in shop.names("worker"):
            for pid in (shop.pid(name), *shop.children(name)):
                still.enter_context(shop.frozen(pid))
        yield
        shop.stack.broker.wiretap().shuffle(rng)


@SHOP.fault("poison", lane="processes")
def poison(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Emit an event that kills its worker."""
    (shop.folder / "poison").touch()
    yield


# --- the broker -----------------------------------------------------------------------------------


@SHOP.fault("broker", lane="surroundings")
def flush_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """FLUSHALL; with RabbitMQ, all queues are purged."""
    shop.stack.wipe_broker()
    shop.flushes += 1
    yield


@SHOP.fault("broker", lane="surroundings", lasts=(0.5, 3.0))
def stop_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Restart it with its files."""
    shop.stack.kill("broker")
    yield
    shop.stack.start_broker()
    shop.restarts += 1


@SHOP.fault("broker", lane="surroundings", lasts=(0.5, 3.0))
def empty_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Restart it without data."""
    shop.stack.kill("broker")
    yield
    shop.stack.empty_broker()
    shop.stack.start_broker()
    shop.restarts += 1
    shop.flushes += 1


@SHOP.fault("broker", lane="surroundings", lasts=(1.0, 7.0))
def freeze_broker(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """SIGSTOP: connections stay open and nothing answers."""
    with shop.standing_still("broker"):
        yield


@SHOP.fault("broker", lane="surroundings")
def cut_broker_clients(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """The broker closes all connections."""
    shop.stack.broker.cut_clients()
    yield


# --- the database ---------------------------------------------------------------------------------


@SHOP.fault("database", lane="surroundings", lasts=(0.2, 1.5), databases=("postgresql",))
def restart_database(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """SIGQUIT, as a crash: it recovers from its write-ahead log."""
    assert shop.postgres
    assert shop.postgres.pid
    os.kill(shop.postgres.pid, signal.SIGQUIT)
    yield
    shop.postgres.stop()
    shop.postgres.start()
    shop.restarts += 1


# --- outside --------------------------------------------------------------------------------------


@SHOP.fault("outside", lane="surroundings", lasts=(0.7, 2.0))
def freeze_bank(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """Requests time out, and the bank executes them afterwards."""
    with shop.frozen(shop.bank.pid):
        yield


@SHOP.fault("outside", lane="surroundings", lasts=(1.0, 3.0))
def stop_mail(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    with shop.down("mailbox"):
        yield


@SHOP.fault("outside", lane="surroundings", lasts=(1.5, 3.0))
def forgetful_mail(shop: WholeShop, _rng: random.Random) -> Iterator[None]:
    """The mail server accepts a message, and answers too late."""
    flag = shop.mail_folder / mailbox.FORGETFUL
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()
