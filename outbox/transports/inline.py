"""The inline transport: the relay's own process runs a delivery that a pass has started.

It needs no message and no broker. It runs one delivery at a time, so that the relay's other thread
relays meanwhile. All other deliveries go to the workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from django.db import connections

from outbox import databases
from outbox.deliveries.connections import drop_all
from outbox.deliveries.lease import MAX_WORKER_NAME, is_started
from outbox.deliveries.transient_errors import DatabaseAccess, drop_broken_connection
from outbox.deliveries.withdrawal import withdraw_deaths_later
from outbox.fork_safety import apart_from_forks
from outbox.models import Delivery
from outbox.subscriptions import find

logger = logging.getLogger("outbox.loop")


class InlineTransport:
    """Runs deliveries of inline handlers, one at a time.

    Args:
        worker: the name that a start stores.
        deliver: runs the handler of a started delivery.

    Attributes:
        started: the delivery that a pass has started. If the pass raised, it may not be stored.
    """

    def __init__(self, worker: str, deliver: Callable[[Delivery], object]) -> None:
        self.worker = worker[:MAX_WORKER_NAME]
        self.started: Delivery | None = None
        self._deliver = deliver
        self._refill = False
        self._is_running = False

    def accepts(self, handler: str) -> bool:
        """Return whether it runs a delivery of the handler with this pinned name now."""
        found = find(handler)
        return found is not None and found.inline and not self._is_running

    def accept(self, delivery: Delivery, *, refill: bool) -> None:
        """Take a started delivery, before its commit. With `refill`, others wait for its slot."""
        self.started, self._refill = delivery, refill

    def pass_on(self) -> None:
        """Pass the started delivery to another thread, if the transport has one for it."""

    def take(self) -> Delivery | None:
        """Return the started delivery, if any. The caller must `run` it."""
        delivery, self.started = self.started, None
        if delivery is not None:
            self._is_running = True
        return delivery

    def run(self, delivery: Delivery) -> bool:
        """Run a delivery; return whether others wait for its slot. Never raises."""
        refill = self._refill
        try:
            with apart_from_forks():
                self._deliver(delivery)
            _drop_broken_connections()
        except BaseException:  # also SystemExit: the thread must not end
            logger.exception(
                "Running delivery %s of %s raised. If it is not done, a relay records a worker "
                "death when its lease expires.",
                delivery.pk,
                delivery.subscription.handler,
            )
            drop_all()
        finally:
            self._is_running = False
        return refill

    def lend_thread(self) -> None:
        """Let others use the thread of the started delivery during an outage, if there is one."""

    def withdraw_death(self, access: DatabaseAccess) -> None:
        """After a reconnection, withdraw a death that another relay recorded for the start."""
        started = self.started
        if started is not None and started.started_at:
            withdraw_deaths_later(
                [started.pk],
                worker=started.worker,
                at=started.started_at,
                access=access,
            )

    def forget_unless_stored(self, access: DatabaseAccess) -> None:
        """Drop a start that is not stored. A failed pass may have committed and lost the answer."""
        started, self.started = self.started, None
        if started is None:
            return
        try:
            with apart_from_forks(access.using):
                if access.run(partial(is_started, started, using=access.using)):
                    self.started = started
        except Exception:
            logger.exception(
                "Cannot read whether delivery %s was started. If it was, a relay records a worker "
                "death when its lease expires.",
                started.pk,
            )


def _drop_broken_connections() -> None:
    """Drop other databases' connections that a handler broke; a worker does so before each task."""
    for connection in connections.all(initialized_only=True):
        if connection.alias != databases.alias():  # the relay checks that one itself
            drop_broken_connection(using=connection.alias)
