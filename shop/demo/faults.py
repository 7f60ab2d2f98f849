"""Faults of `--break`: each breaks a part of the running stack and prints the consequence.

Each waits until something is in flight that it can hit. Nobody has to repair anything: the
supervisor restarts dead programs, as systemd would, and leases and the relay do the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import redis
from django.utils import timezone

from orders.models import Order
from outbox.models import Delivery
from outbox.subscriptions import queues
from payments.handlers import LEASE
from shop.demo import watch
from shop.demo.watch import Watch
from shop.up.supervisor import Supervisor

BANK_QUEUE = "payments.gateway"


class Strikes:
    """Four faults, each used once."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        broker_url: str,
        watch: Watch,
        say: Callable[[str], object],
    ) -> None:
        self._supervisor = supervisor
        self._broker_url = broker_url
        self._watch = watch
        self._say = say
        self._struck_at = timezone.now()

    def kill_pool(self) -> None:
        """Send SIGKILL to the worker's child processes, while one of them asks the bank."""
        hit = self._await_running(queue=BANK_QUEUE)
        children = children_of(self._pid("worker"))
        self._struck_at = timezone.now()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        self._say(
            f"BREAK: killed the worker's {len(children)} child processes (SIGKILL) in the middle "
            f"of {_what(hit)}. When its lease has passed, {LEASE:g} s, it is given to another; the "
            "bank is asked again under the same key, and charges once."
        )

    def kill_worker(self) -> None:
        """Send SIGKILL to the worker and its children, while a delivery is running."""
        hit = self._await_running()
        self._struck_at = timezone.now()
        os.killpg(self._pid("worker"), signal.SIGKILL)
        self._say(
            f"BREAK: killed the whole worker (SIGKILL), which had {_what(hit)} in hand. A new one "
            "is started; what was in hand is sent again when its lease has passed. Meanwhile "
            "orders are taken."
        )

    def wipe_broker(self) -> None:
        """Send FLUSHALL, while messages wait in the broker."""
        with redis.Redis.from_url(self._broker_url) as client:
            names = ["outbox", *set().union(*queues().values())]
            self._watch.until(
                lambda: sum(_length(client, name) for name in names),
                "a message waited in the broker; see the log of the relay",
            )
            lost = sum(_length(client, name) for name in names)
            client.flushall()
        self._say(
            f"BREAK: wiped the broker (FLUSHALL), {lost} messages are gone. Nothing is lost: each "
            "is a number of a row in the database, and is sent again when its lease has passed."
        )

    def stop_relay(self) -> None:
        """Send SIGTERM to the relay, while deliveries are in flight."""
        self._watch.until(watch.under_way, "a delivery was on its way; see the log of the relay")
        pid, number = self._pid("relay"), watch.under_way()
        os.kill(pid, signal.SIGTERM)
        self._say(
            f"BREAK: stopped the relay with {number} deliveries on their way. Orders are taken all "
            "the same; their events wait in the database until it is back."
        )
        self._watch.until(
            lambda: self._supervisor.pid_of("relay") != pid, "the relay ended after a SIGTERM"
        )

    def _await_running(self, *, queue: str = "") -> Delivery:
        """Return a delivery that a live worker is running now."""
        found: list[Delivery] = []

        def is_in_hand() -> bool:
            found[:] = [one for one in [watch.in_hand(since=self._struck_at, queue=queue)] if one]
            return bool(found) and self._supervisor.pid_of("worker") is not None

        self._watch.until(is_in_hand, "a worker had a delivery in hand; see the log of the worker")
        return found[0]

    def _pid(self, name: str) -> int:
        pid = self._supervisor.pid_of(name)
        if pid is None:
            raise watch.NeverHappened(f"The {name} is not running, so it cannot be hit.")
        return pid


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607  wherever the system has it
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = (map(int, line.split()) for line in listed.splitlines())
    return [child for child, parent in pairs if parent == pid]


def _length(client: redis.Redis, name: str) -> int:
    return int(client.llen(name))


def _what(delivery: Delivery) -> str:
    order = Order.objects.get(pk=delivery.event.key)
    return f"{delivery.subscription.handler} of {order.reference}"
