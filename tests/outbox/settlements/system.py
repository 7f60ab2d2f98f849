"""A whole system in one process: it receives, relays, runs its handlers and publishes.

Run as a module: `SYSTEM='{...}' python -m tests.outbox.settlements.system`. It migrates its
database first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.processes import Running

_SYSTEM = "SYSTEM"
_READY = "the system runs"


@contextmanager
def system(
    database: str, outbox: Mapping[str, Any], *, die_at: str = "", after: int = 1
) -> Iterator[Running]:
    """Run a system until the end of the block.

    Args:
        database: the URL of its database.
        outbox: its setting `OUTBOX`.
        die_at: fail point at which the process kills itself.
        after: the how many-th time it does.
    """
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.outbox.project.settings",
        "DATABASE_URL": database,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "PYTHONUNBUFFERED": "1",
        _SYSTEM: json.dumps({"outbox": dict(outbox), "die_at": die_at, "after": after}),
    }
    command = [sys.executable, "-m", "tests.outbox.settlements.system"]
    process = Running(command, environment=environment)
    try:
        process.says(_READY)
        yield process
    finally:
        process.end_for_sure()


def main() -> None:
    """Run the system with the given settings until SIGTERM."""
    import django
    from django.conf import settings

    given = json.loads(os.environ[_SYSTEM])
    settings.OUTBOX = {"NUDGE": False, "POLL_SECONDS": 0.1, **given["outbox"]}
    django.setup()
    from django.core.management import call_command

    _declare()
    call_command("migrate", verbosity=0)
    _arm(given["die_at"], given["after"])
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threads = [
        threading.Thread(target=_receive, args=(stopping,)),
        threading.Thread(target=_work, args=(stopping,)),
    ]
    for thread in threads:
        thread.start()
    print(_READY, flush=True)
    for thread in threads:
        thread.join()


def _declare() -> None:
    """Declare the event of the other system, and a handler that prints each one."""
    from outbox import subscribe
    from outbox.sources import ExternalEvent

    class Ordered(ExternalEvent, source="shop", type="shops.Ordered.v1", key="number"):
        """The shop has an order."""

        number: int

    @subscribe("shop.Ordered", name="tests.invoice")
    def invoice(number: int) -> None:
        print(f"invoice {number}.", flush=True)


def _arm(point: str, after: int) -> None:
    from outbox.deliveries import failpoints

    left = after

    def die() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    if point:
        failpoints.arm(point, die)


def _receive(stopping: threading.Event) -> None:
    from outbox.sources.configuration import configured
    from outbox.sources.receiver import Receiver

    for source in configured().values():
        Receiver(source, stopping=stopping).run()


def _work(stopping: threading.Event) -> None:
    from outbox.relay.passes import relay
    from outbox.transports.base import Message
    from outbox.worker.delivery import deliver

    def publish(message: Message) -> None:
        deliver(handler_name=message.handler, pairs=message.pairs, worker="w1")

    while not stopping.wait(0.05):
        relay(publish=publish)


if __name__ == "__main__":
    main()
