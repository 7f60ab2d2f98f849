"""The relay's waiting loop: a thread in the main process of the worker of queue `outbox`."""

from __future__ import annotations

import logging
import threading

from django.db import connections

from outbox.conf import conf
from outbox.counting import minutes
from outbox.forks import apart_from_forks
from outbox.tasks import is_broker_there, publish

from . import heartbeat
from .relay import BrokerUnavailable, Message, relay

logger = logging.getLogger("outbox.loop")

_STOP_SECONDS = 10.0


class RelayLoop(threading.Thread):
    """Relays until stopped: clears the nudge, scans until it finds nothing, waits."""

    def __init__(self, worker: str = "") -> None:
        super().__init__(name="outbox-relay", daemon=True)
        self._worker = worker or heartbeat.own_name()
        self._nudged = threading.Event()
        self._stopping = threading.Event()

    def nudge(self) -> None:
        """Wake the loop now."""
        self._nudged.set()

    def stop(self) -> None:
        """End after the present pass; wait for that."""
        self._stopping.set()
        self._nudged.set()
        self.join(_STOP_SECONDS)

    def run(self) -> None:
        """Relay, wait, relay, until stopped."""
        is_nudged = False
        try:
            while not self._stopping.is_set():
                self._nudged.clear()
                self._relay(is_nudged=is_nudged)
                self._say_that_it_lives()  # last, so that nothing waits for that
                is_nudged = self._nudged.wait(conf().FLOOR_SECONDS)
        finally:
            connections.close_all()

    def _relay(self, *, is_nudged: bool) -> None:
        try:
            relay(
                publish=self._publish,
                is_hinted=is_nudged,
                is_wanted=self._goes_on,
                rest=self._rest,
                report=lambda plan: minutes.note_events(plan.fanned_out),
                around=apart_from_forks,  # a worker of all queues forks its pool's children
            )
        except BrokerUnavailable as error:
            logger.warning("The broker is away (%s); events wait in the database.", error)
            self._wait_for_broker()
        except Exception:  # a relay that stops would stop everything; say so and look again
            logger.exception("The relay failed and tries again.")
            connections.close_all()

    def _goes_on(self) -> bool:
        """Say that it lives, since it may find work in every pass; tell whether it shall go on."""
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

    def _wait_for_broker(self) -> None:
        while not self._stopping.wait(conf().FLOOR_SECONDS):
            self._say_that_it_lives()
            if is_broker_there():
                logger.info("The broker is back.")
                return
