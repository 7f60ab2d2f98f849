"""The nudge: a hint to the relay after a commit, sent from a separate thread.

Each process has one daemon thread, started at the first nudge and again after a fork. Nudges during
a send, or within milliseconds after it, are merged into one. Sending one takes as much processor
time as storing an event, and the relay finds everything that is committed by then. Nudges are
dropped while the broker is away. The relay also polls every `OUTBOX["POLL_SECONDS"]`, so a lost
nudge costs latency, never data.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time

from outbox.conf import conf

from . import celery_app
from .base import Transport

logger = logging.getLogger("outbox.nudge")

#: Seconds between two nudges: shortest, and longest under steady traffic.
_PAUSES = (0.002, 0.02)
_PAUSE_AFTER_FAILURE = 1.0


def nudge() -> None:
    """Nudge the relay soon. Returns at once, never raises, never waits for the broker.

    Without Celery there is no broker, so the relay polls.
    """
    if conf().NUDGE and _has_broker():
        _nudger.request()


@functools.cache
def _has_broker() -> bool:
    return celery_app.is_importable()


class _Nudger:
    """The thread that sends nudges, and its flag."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def request(self) -> None:
        self._wanted.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox-nudge", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        transport: Transport | None = None
        pause = _PAUSES[0]
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                transport = transport or _transport()
                transport.nudge()
                pause = self._rest(pause)
            except Exception as error:  # the broker is away: drop it, the relay polls
                logger.debug("nudge dropped: %s", error)
                time.sleep(_PAUSE_AFTER_FAILURE)

    def _rest(self, pause: float) -> float:
        """Wait, and return the next wait: twice as long if another nudge is requested."""
        time.sleep(pause)
        return min(pause * 2, _PAUSES[1]) if self._wanted.is_set() else _PAUSES[0]


def _transport() -> Transport:
    """Return a transport with its own connection, for this thread."""
    from .celery_broker import CeleryTransport  # only a process that sends nudges needs Celery

    return CeleryTransport()


_nudger = _Nudger()


def _renew() -> None:
    # A forked child has the flag but not the thread, and may have a lock that is never released.
    global _nudger
    _nudger = _Nudger()


os.register_at_fork(after_in_child=_renew)
