"""The nudge: wake the relay after a commit, never from the caller's thread.

Each process has one daemon thread, started at the first nudge and again after a fork. Nudges during
a send, or within milliseconds after it, are merged into one. Sending one takes as much processor
time as storing an event, and the relay finds everything that is committed by then. Nudges are
dropped while the broker is away. The relay also polls every `OUTBOX["POLL_SECONDS"]`, so a lost
nudge costs latency, never data.

A nudge is an empty message to a fanout exchange. It wakes every running relay and is not stored for
others.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from celery import Celery, current_app
from kombu import Connection, Exchange, Producer, Queue

from .conf import conf

logger = logging.getLogger(__name__)

EXCHANGE = Exchange("outbox.nudge", type="fanout", durable=False, delivery_mode="transient")

#: Seconds between two nudges: shortest, and longest under steady traffic.
_PAUSES = (0.002, 0.02)
_PAUSE_AFTER_FAILURE = 1.0


class _Nudger:
    """The thread that sends nudges, and its flag."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def poke(self) -> None:
        """Request a nudge; return at once."""
        self._wanted.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox-nudge", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        connection: Connection | None = None
        pause = _PAUSES[0]
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                connection = connection or _connect(current_app)
                _send(connection)
                pause = self._rest(pause)
            except Exception as error:  # the broker is away: drop it, the relay polls
                logger.debug("nudge dropped: %s", error)
                _close(connection)
                connection = None
                time.sleep(_PAUSE_AFTER_FAILURE)

    def _rest(self, pause: float) -> float:
        """Wait, and return the next wait: twice as long if another nudge is requested."""
        time.sleep(pause)
        return min(pause * 2, _PAUSES[1]) if self._wanted.is_set() else _PAUSES[0]


_nudger = _Nudger()


def poke() -> None:
    """Request a nudge of the relay. Returns at once, never raises, never waits for the broker."""
    if conf().NUDGE:
        _nudger.poke()


def nudge_queue(name: str) -> Queue:
    """Return the nudge queue of a process. The broker deletes it after the process ends."""
    own = f"{EXCHANGE.name}.{name}"
    return Queue(own, EXCHANGE, durable=False, auto_delete=True, expires=60, max_length=1)


def _renew() -> None:
    # A forked child has the flag but not the thread, and may have a lock that is never released.
    global _nudger
    _nudger = _Nudger()


os.register_at_fork(after_in_child=_renew)


def _connect(app: Celery) -> Connection:
    connection = app.connection_for_write()
    connection.ensure_connection(max_retries=1, timeout=1)
    EXCHANGE(connection.default_channel).declare()
    return connection


def _send(connection: Connection) -> None:
    producer = Producer(connection.default_channel, exchange=EXCHANGE, auto_declare=False)
    producer.publish({}, serializer="json", retry=False)


def _close(connection: Connection | None) -> None:
    try:
        if connection is not None:
            connection.release()
    except Exception as error:
        logger.debug("closing a broken connection: %s", error)
