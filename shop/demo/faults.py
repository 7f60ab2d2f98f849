"""Faults of `--break`: each breaks a part of the running stack and prints the consequence.

Each waits until its target is in flight. No manual repair is needed: the supervisor restarts dead
programs, as systemd would, and leases and the relay send the deliveries again.
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
from shop.demo import conditions
from shop.demo.conditions import Waiter
from shop.up.supervisor import Supervisor

BANK_QUEUE = "payments.gateway"


class Faults:
    """Four faults, each used once."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        broker_url: str,
        waiter: Waiter,
        report: Callable[[str], object],
    ) -> None:
        self._supervisor = supervisor
        self._broker_url = broker_url
        self._waiter = waiter
        self._report = report
        self._last_fault_at = timezone.now()

    def kill_pool(self) -> None:
        """Send SIGKILL to the worker's child processes, while one of them calls the bank."""
        hit = self._await_running(queue=BANK_QUEUE)
        children = children_of(self._pid("worker"))
        self._last_fault_at = timezone.now()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        self._report(
            f"BREAK: killed the worker's {len(children)} child processes (SIGKILL) during "
            f"{_label(hit)}. After its lease of {LEASE:g} s the delivery is sent again. The next "
            "request to the bank has the same idempotency key, so the bank charges once."
        )

    def kill_worker(self, *, queue: str = "") -> None:
        """Send SIGKILL to the worker and its children, while a delivery is running."""
        hit = self._await_running(queue=queue)
        self._last_fault_at = timezone.now()
        os.killpg(self._pid("worker"), signal.SIGKILL)
        self._report(
            f"BREAK: killed the whole worker (SIGKILL) during {_label(hit)}. A new worker starts. "
            "The delivery is sent again after its lease. Orders are accepted meanwhile."
        )

    def wipe_broker(self) -> None:
        """Send FLUSHALL, while messages wait in the broker."""
        with redis.Redis.from_url(self._broker_url) as client:
            names = ["outbox", *set().union(*queues().values())]
            self._waiter.until(
                lambda: sum(_length(client, name) for name in names),
                "no message waits in the broker; see the log of the relay",
            )
            lost = sum(_length(client, name) for name in names)
            client.flushall()
        self._report(
            f"BREAK: wiped the broker (FLUSHALL): {lost} messages deleted. Their deliveries are in "
            "the database. The relay sends them again after their leases."
        )

    def stop_relay(self) -> None:
        """Send SIGTERM to the relay, while deliveries are in flight."""
        self._waiter.until(
            conditions.in_flight, "no delivery is in flight; see the log of the relay"
        )
        pid, number = self._pid("relay"), conditions.in_flight()
        os.kill(pid, signal.SIGTERM)
        self._report(
            f"BREAK: stopped the relay with {number} deliveries in flight. Orders are accepted. "
            "Their events wait in the database until the relay runs again."
        )
        self._waiter.until(
            lambda: self._supervisor.pid_of("relay") != pid, "the relay did not end after a SIGTERM"
        )

    def _await_running(self, *, queue: str = "") -> Delivery:
        """Return a delivery that a live worker is running now."""
        found: list[Delivery] = []

        def is_running() -> bool:
            delivery = conditions.running_delivery(since=self._last_fault_at, queue=queue)
            found[:] = [delivery] if delivery else []
            return bool(found) and self._supervisor.pid_of("worker") is not None

        self._waiter.until(is_running, "no worker runs a delivery; see the log of the worker")
        return found[0]

    def _pid(self, name: str) -> int:
        pid = self._supervisor.pid_of(name)
        if pid is None:
            raise conditions.ConditionTimeout(
                f"The {name} is not running, so it cannot be stopped."
            )
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


def _label(delivery: Delivery) -> str:
    order = Order.objects.get(pk=delivery.event.key)
    return f"{delivery.subscription.handler} of {order.reference}"
