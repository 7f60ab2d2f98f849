"""The nudge: a hint to the relay after a commit, sent from a separate thread.

Each process has one daemon thread, started at the first nudge and again after a fork. Nudges during
a send, or within milliseconds after it, are merged into one. Sending one takes as much processor
time as storing an event, and the relay finds everything that is committed by then. Nudges are
dropped while the broker is away. The relay also polls every `OUTBOX["POLL_SECONDS"]`, so a lost
nudge costs latency, never data.

Each transport in use gets them: Celery's broker, or PostgreSQL for the local one. A process of
`manage.py outbox work` nudges its own relay without the thread. With several databases, a nudge by
Celery's broker is for the relays of all, and one by PostgreSQL for the relays of that database.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from outbox import databases
from outbox.conf import conf

from . import celery_refusals, names, notifications
from .base import NUDGES

logger = logging.getLogger("outbox.nudge")

#: Seconds between two nudges: shortest, and longest under steady traffic.
_PAUSES = (0.002, 0.02)
_PAUSE_AFTER_FAILURE = 1.0
#: Seconds without a nudge after which the thread closes its database connection.
_IDLE_SECONDS = 60.0

#: Nudges the relay of this process for a database, and returns whether no other one is needed.
_own_relay: Callable[[str], bool] | None = None


class _Sender(Protocol):
    """The part of a transport that this module uses."""

    def nudge(self) -> None: ...


def nudge(using: str | None = None) -> None:
    """Nudge the relay soon. Returns at once, never raises, never waits for the broker.

    Without a broker and PostgreSQL nothing is sent, so relays of other processes poll.

    Args:
        using: the database in which a delivery may be due. None: that of the running code.
    """
    using = using or databases.alias()
    if not conf().NUDGE or (_own_relay is not None and _own_relay(using)):
        return
    if any(_can_send(name, using) for name in names.in_use()):
        _nudger.request(using)


def nudge_of(using: str) -> Callable[[], None]:
    """Return the callback of `transaction.on_commit` that nudges the relay of a database."""
    return partial(nudge, using) if databases.listed() else nudge


def is_nudge(callback: object) -> bool:
    """Return whether a callback is the outbox's own, which needs no guard."""
    return callback is nudge or (isinstance(callback, partial) and callback.func is nudge)


def attach(own_relay: Callable[[str], bool] | None) -> None:
    """Nudge the relay of this process directly from now on. None ends that.

    Args:
        own_relay: nudges it for a database, and returns whether it can run all that is due soon.
    """
    global _own_relay
    _own_relay = own_relay


class _Nudger:
    """The thread that sends nudges, and its flag."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        #: The databases of the requests since the last send.
        self._databases: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def request(self, using: str) -> None:
        self._databases.add(using)
        self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(target=self._run, name="outbox-nudge", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # too many threads: the next nudge tries again
                logger.debug("No thread sends nudges: %s", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        senders: dict[tuple[str, str], _Sender] = {}
        latest: set[str] = set()
        pause = _PAUSES[0]
        while True:
            # A nudge that was refused is sent again, to notice the end: there may be no other one.
            if not self._wanted.wait(_IDLE_SECONDS) and NUDGES not in celery_refusals.own_queues():
                _close(senders)
                self._wanted.wait()
            self._wanted.clear()
            wanted, self._databases = self._databases, set()
            latest = wanted or latest
            if _send_each(senders, latest):
                pause = self._rest(pause)
            else:
                time.sleep(_PAUSE_AFTER_FAILURE)

    def _rest(self, pause: float) -> float:
        """Wait, and return the next wait: twice as long if another nudge is requested."""
        time.sleep(pause)
        return min(pause * 2, _PAUSES[1]) if self._wanted.is_set() else _PAUSES[0]


def _send_each(senders: dict[tuple[str, str], _Sender], wanted: set[str]) -> bool:
    """Send a nudge by each transport in use; return whether one took it, or none is needed."""
    failed = 0
    ways = {_way(name, using) for name in names.in_use() for using in list(wanted)}
    in_use = sorted(way for way in ways if _can_send(*way))
    for way in in_use:
        try:
            if way not in senders:
                senders[way] = _sender(*way)
            senders[way].nudge()
        except Exception as error:  # the broker is away: drop it, the relay polls
            failed += 1
            logger.debug("nudge by %s dropped: %s", way[0], error)
    return not failed or failed < len(in_use)


def _way(name: str, using: str) -> tuple[str, str]:
    """Return a transport and its database; "" of a broker, whose nudge is for all databases."""
    return (name, "" if name == names.CELERY else using)


def _can_send(name: str, using: str) -> bool:
    return name == names.CELERY or notifications.is_possible(using)


def _sender(name: str, using: str) -> _Sender:
    """Return a transport's sender with its own connection, for this thread."""
    if name == names.LOCAL:
        return notifications.NotifyTransport(using)
    from .celery_broker import CeleryTransport  # only a process that sends nudges needs Celery

    return CeleryTransport()


def _close(senders: dict[tuple[str, str], _Sender]) -> None:
    for sender in senders.values():
        if isinstance(sender, notifications.NotifyTransport):
            sender.close()


_nudger = _Nudger()


def _renew() -> None:
    # A forked child has the flag but not the threads, and may have a lock that is never released.
    global _nudger, _own_relay
    _own_relay = None
    _nudger = _Nudger()


os.register_at_fork(after_in_child=_renew)
