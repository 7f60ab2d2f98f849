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

from django.db import connections

from outbox.conf import conf
from outbox.counting import minutes
from outbox.forks import apart_from_forks
from outbox.models import Delivery
from outbox.subscriptions import find
from outbox.tasks import is_broker_there, publish

from . import heartbeat
from .delivery import deliver_started
from .fan_out import Express
from .relay import BrokerUnavailable, Message, Plan, relay

logger = logging.getLogger("outbox.loop")

_STOP_SECONDS = 10.0

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
        self._in_hand: Delivery | None = None
        #: Whether one of the two runs a delivery. Only one does, so that the other one relays.
        self._is_running = False
        self._looked = 0.0
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
        """End after the present pass, and the delivery in hand; wait for that."""
        self._stopping.set()
        self._nudged.set()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _take_turns(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._turn:
                    delivery = self._relay_in_turn()
                if delivery is not None:
                    self._run(delivery)
        finally:
            connections.close_all()

    def _relay_in_turn(self) -> Delivery | None:
        """Relay, wait, relay, until stopped; or until there is what this thread is to run."""
        seconds = _FIRST_SECONDS
        while True:
            is_nudged = self._nudged.wait(seconds)
            if self._stopping.is_set():
                return None
            self._nudged.clear()
            self._relay(is_nudged=is_nudged)
            if self._in_hand is not None:
                delivery, self._in_hand, self._is_running = self._in_hand, None, True
                return delivery
            self._say_that_it_lives()  # last, so that nothing waits for that
            seconds = conf().FLOOR_SECONDS

    def _relay(self, *, is_nudged: bool) -> None:
        try:
            relay(
                publish=self._publish,
                is_hinted=is_nudged and self._has_looked(),
                is_wanted=self._goes_on,
                rest=self._rest,
                report=self._note,
                around=apart_from_forks,  # a worker of all queues forks its pool's children
                express=Express(self._worker, self._takes),
            )
        except BrokerUnavailable as error:
            logger.warning("The broker is away (%s); events wait in the database.", error)
            if self._in_hand is None:
                self._wait_for_broker()
        except Exception:  # a relay that stops would stop everything; say so and look again
            logger.exception("The relay failed and tries again.")
            connections.close_all()

    def _has_looked(self) -> bool:
        """Tell whether a pass may begin without a look, by which alone it finds delayed events."""
        now = time.monotonic()
        if now - self._looked < conf().FLOOR_SECONDS:
            return True
        self._looked = now
        return False

    def _goes_on(self) -> bool:
        """Say that it lives, since it may find work in every pass; tell whether it shall go on."""
        if self._in_hand is not None:
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

    def _note(self, plan: Plan) -> None:
        minutes.note_events(plan.fanned_out)
        self._in_hand = plan.started

    def _publish(self, message: Message) -> None:
        publish(message)
        heartbeat.beat(heartbeat.Kind.BROKER, self._worker)

    def _takes(self, name: str) -> bool:
        handler = find(name)
        return handler is not None and handler.express and not self._is_running

    def _run(self, delivery: Delivery) -> None:
        name = delivery.subscription.handler
        try:
            with apart_from_forks():
                minutes.note(name, deliver_started(delivery))
        except BaseException:  # SystemExit, too: a thread that ends would relay no more
            logger.exception("A delivery of %s was not run to its end.", name)
            connections.close_all()
        finally:
            self._is_running = False

    def _wait_for_broker(self) -> None:
        while not self._stopping.wait(conf().FLOOR_SECONDS):
            self._say_that_it_lives()
            if is_broker_there():
                logger.info("The broker is back.")
                return
