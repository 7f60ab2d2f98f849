"""The relay's waiting loop: two threads in the main process of the worker of queue `outbox`.

One of them relays, until a pass has started a delivery that goes express, because its handler asks
for that. It leaves relaying to the other one, and runs that delivery itself, on a connection that
is warm. Meanwhile all others go to the workers as ever; and so does, at any time, what does not
come alone and what was sent before. So a handler that is slow here, or hangs, delays nobody, one
that kills its process does so once, and a backlog is the workers'.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import partial

from django.db import connections

from outbox import databases
from outbox.conf import conf
from outbox.counting import minutes
from outbox.deliveries import heartbeat
from outbox.deliveries.connections import drop_all
from outbox.deliveries.lease import is_started
from outbox.deliveries.transient_errors import (
    DatabaseAccess,
    WaitGivenUp,
    drop_broken_connection,
    is_transient,
)
from outbox.fork_safety import apart_from_forks
from outbox.models import Delivery
from outbox.subscriptions import find
from outbox.tasks import is_broker_there, publish
from outbox.worker.delivery import deliver_started
from outbox.worker.start import withdraw_deaths_later

from .fan_out import Inline
from .passes import BrokerUnavailable, Message, Pace, relay

logger = logging.getLogger("outbox.loop")

_STOP_SECONDS = 10.0

#: So long whoever waits for the turn keeps the connection that it will need again.
_WARM_SECONDS = 30.0

#: Whoever takes the turn waits so long for a nudge first, since the other one runs a delivery now.
_FIRST_SECONDS = 0.01


class RelayLoop:
    """Relays until stopped: clears the nudge, scans until it finds nothing, waits."""

    def __init__(self, worker: str = "") -> None:
        self._worker = worker or heartbeat.own_name()
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        #: Held by who relays.
        self._turn = threading.Lock()
        self._pace = Pace(self._rest)
        self._inline = Inline(self._worker, self._takes)
        #: Whether one of the two runs a delivery. Only one does, so that the other one relays.
        self._is_running = False
        self._threads = [
            threading.Thread(target=self._take_turns, name=f"outbox-relay-{number}", daemon=True)
            for number in (1, 2)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def nudge(self) -> None:
        """Wake the loop now."""
        self._nudged.set()

    def stop(self) -> None:
        """End after the present pass, and the delivery in hand; wait for that, 10 s at most."""
        self._stopping.set()
        self._nudged.set()
        end = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _take_turns(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wait_for_turn()
                try:
                    delivery = self._relay_in_turn()
                finally:
                    self._turn.release()
                if delivery is not None:
                    self._run(delivery)
                    self._say_that_it_lives()  # every pass may end so
        finally:
            connections.close_all()

    def _wait_for_turn(self) -> None:
        """Wait, and keep no connection for long that nobody uses, and that may be dead then."""
        if not self._turn.acquire(timeout=_WARM_SECONDS):
            connections.close_all()
            self._turn.acquire()

    def _relay_in_turn(self) -> Delivery | None:
        """Relay, wait, relay, until stopped; or until there is what this thread is to run."""
        seconds = _FIRST_SECONDS
        while True:
            is_nudged = self._nudged.wait(seconds)
            if self._stopping.is_set():
                return None
            self._nudged.clear()
            self._relay(is_nudged=is_nudged)
            delivery, self._inline.started = self._inline.started, None
            if delivery is not None:
                self._is_running = True
                return delivery
            self._say_that_it_lives()  # last, so that nothing waits for that
            seconds = 0.0 if self._stopping.is_set() else conf().POLL_SECONDS

    def _relay(self, *, is_nudged: bool) -> None:
        try:
            relay(
                publish=self._publish,
                is_hinted=is_nudged,
                is_wanted=self._goes_on,
                pace=self._pace,
                report=lambda plan: minutes.note_events(plan.fanned_out),
                around=apart_from_forks,  # a worker of all queues forks its pool's children
                inline=self._inline,
            )
        except BrokerUnavailable as error:
            logger.warning("The broker is away (%s); events wait in the database.", error)
            if self._inline.started is None:
                self._wait_for_broker()
        except Exception as error:  # a relay that stops would stop everything
            using = databases.alias()
            if is_transient(error, using=using):
                logger.warning("The relay failed by an error of the database: %s", error)
            else:
                logger.exception("The relay failed and tries again.")
            drop_all()
            self._recover(DatabaseAccess(using, sleep=self._stopping.wait))

    def _recover(self, access: DatabaseAccess) -> None:
        started = self._inline.started
        access.after_reconnect(partial(heartbeat.report_outage, access))
        if started is not None and started.started_at:
            # It may be stored, and a relay that was not cut off may have declared it dead.
            withdraw_deaths_later(
                [started.pk], worker=started.worker, at=started.started_at, access=access
            )
        self._wait_for_database(access)
        self._forget_what_is_not_stored(access)

    def _wait_for_database(self, access: DatabaseAccess) -> None:
        # Only where this is SQLite: a fork must not wait for the end of an outage.
        with apart_from_forks(access.using):
            try:
                access.recover()
            except WaitGivenUp as error:
                logger.info("%s", error)
            except Exception:
                logger.exception("The relay failed after an outage of the database.")
                drop_all()

    def _forget_what_is_not_stored(self, access: DatabaseAccess) -> None:
        """After a pass that failed: its COMMIT may have happened though the answer was lost."""
        started, self._inline.started = self._inline.started, None
        if started is None:
            return
        try:
            with apart_from_forks(access.using):
                if access.run(partial(is_started, started, using=access.using)):
                    self._inline.started = started
        except Exception:
            logger.exception(
                "It is not known whether delivery %s was started. If it was, a relay judges it "
                "when its lease has passed.",
                started.pk,
            )

    def _goes_on(self) -> bool:
        """Say that it lives, since it may find work in every pass; tell whether it shall go on."""
        if self._inline.started is not None:
            return False
        self._say_that_it_lives()
        return not self._stopping.is_set()

    def _rest(self, seconds: float) -> bool:
        """Wait for a nudge; tell whether one came."""
        is_nudged = self._nudged.wait(seconds)
        self._nudged.clear()
        return is_nudged

    def _say_that_it_lives(self) -> None:
        with apart_from_forks():
            heartbeat.beat(heartbeat.Kind.RELAY, self._worker)

    def _publish(self, message: Message) -> None:
        publish(message)
        heartbeat.beat(heartbeat.Kind.BROKER, self._worker)

    def _takes(self, name: str) -> bool:
        handler = find(name)
        return handler is not None and handler.inline and not self._is_running

    def _run(self, delivery: Delivery) -> None:
        name, is_last = delivery.subscription.handler, self._inline.refill
        try:
            with apart_from_forks():
                minutes.note(name, deliver_started(delivery))
            _drop_what_broke()
        except BaseException:  # SystemExit, too: a thread that ends would relay no more
            text = "Running delivery %s of %s raised. If it is not done, a relay judges it when "
            logger.exception(text + "its lease has passed.", delivery.pk, name)
            drop_all()
        finally:
            self._is_running = False
        if is_last:
            self.nudge()

    def _wait_for_broker(self) -> None:
        while not self._stopping.wait(conf().POLL_SECONDS):
            self._say_that_it_lives()
            if is_broker_there():
                logger.info("The broker is back.")
                return


def _drop_what_broke() -> None:
    """Drop what a handler broke of other databases; a worker does so before each task."""
    for connection in connections.all(initialized_only=True):
        if connection.alias != databases.alias():  # the relay looks after that one
            drop_broken_connection(using=connection.alias)
