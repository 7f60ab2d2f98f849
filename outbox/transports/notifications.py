"""Nudges through PostgreSQL: NOTIFY after a commit, and LISTEN in each process that relays.

NOTIFY is never part of a transaction of the application. PostgreSQL lets such transactions commit
only one after the other (https://www.postgresql.org/docs/current/sql-notify.html). The nudge's
thread sends it later, on a connection of its own, and merges nudges that follow one another.

A pooler in transaction mode, such as PgBouncer's, passes on no notification. `can_listen` finds
that out. A process that cannot listen polls.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Callable
from contextlib import closing, suppress
from threading import Event
from typing import Any
from uuid import uuid4

from django.db import connections

logger = logging.getLogger("outbox.nudge")

CHANNEL = "outbox_nudge"

#: Seconds to wait for a notification before `stopping` is read again.
_WAIT_SECONDS = 1.0
#: Seconds between two looks at a silent connection, and after a failure.
_LOOK_SECONDS, _PAUSE_SECONDS = 15.0, 1.0
#: Seconds within which a notification of this process must arrive while it tries whether it can.
_PROBE_SECONDS = 2.0
#: Seconds after which a process that could not listen tries it again.
_AGAIN_SECONDS = 300.0
#: Seconds within which a silent server has to connect or to answer.
_ANSWER_SECONDS = 5.0


def is_possible(using: str) -> bool:
    """Return whether the database can notify this process: PostgreSQL with psycopg 3."""
    connection: Any = connections[using]
    return bool(connection.vendor == "postgresql" and connection.Database.__name__ == "psycopg")


class NotifyTransport:
    """Sends nudges. One thread uses it, on its own Django connection in autocommit mode."""

    def __init__(self, using: str) -> None:
        self._using = using

    def nudge(self) -> None:
        """Notify all relays that listen.

        Raises:
            Error: the database cannot be reached. The next call connects again.
        """
        connection = connections[self._using]
        try:
            _notify(connection, CHANNEL)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. The next nudge opens another one."""
        with suppress(Exception):
            connections[self._using].close()


class Listener:
    """Nudges a relay for each notification, until stopped. It runs in one thread.

    Args:
        wake: nudges the relay.
        stopping: ends the loop within a second.
        using: the outbox's database alias.

    Attributes:
        listens: whether notifications arrive; None: not known yet.
    """

    def __init__(self, wake: Callable[[], object], *, stopping: Event, using: str) -> None:
        self._wake = wake
        self._stopping = stopping
        self._using = using
        self.listens: bool | None = None

    def run(self) -> None:
        """Listen until stopped. After a lost connection, listen again and nudge once."""
        try:
            while not self._stopping.is_set():
                try:
                    self._listen()
                except Exception as error:
                    logger.debug("no notifications: %s", error)
                    self._stopping.wait(_PAUSE_SECONDS)
        finally:
            connections.close_all()

    def _listen(self) -> None:
        self._note(can_listen(self._using))  # a pooler may have come since the last session
        if not self.listens:
            self._stopping.wait(_AGAIN_SECONDS)
            return
        with closing(_listening(self._using, CHANNEL)) as session:
            self._wake()  # what was committed before LISTEN has sent its notification already
            looked = time.monotonic()
            while not self._stopping.is_set():
                if _arrived(session, _WAIT_SECONDS):
                    self._wake()
                elif time.monotonic() - looked > _LOOK_SECONDS:
                    _require_answer(session)
                    looked = time.monotonic()

    def _note(self, listens: bool) -> None:
        was, self.listens = self.listens, listens
        if not listens and was is not False:
            logger.warning(
                "The database %s passes on no notification, as behind a pooler in transaction "
                'mode. This process polls every OUTBOX["POLL_SECONDS"].',
                self._using,
            )


def can_listen(using: str) -> bool:
    """Try whether notifications arrive: listen on one connection, and notify on another one.

    Raises:
        Error: the database cannot be reached.
    """
    channel = f"outbox_probe_{os.getpid()}_{uuid4().hex[:8]}"
    with closing(_listening(using, channel)) as session:
        _notify(connections[using], channel)
        return _arrived(session, _PROBE_SECONDS)


def _notify(connection: Any, channel: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {channel}")


def _listening(using: str, channel: str) -> Any:
    """Return a new session of psycopg that listens. No pool of Django's has it."""
    connection: Any = connections[using]
    connection.ensure_connection()  # it registers the types
    parameters = connection.get_connection_params()
    parameters.pop("pool", None)
    parameters.setdefault("connect_timeout", int(_ANSWER_SECONDS))
    connection.close()
    session = connection.Database.connect(**parameters)
    session.autocommit = True
    session.execute(f"LISTEN {channel}")
    return session


def _require_answer(session: Any) -> None:
    """Ask the server for an answer, since a network that is cut reports no end of a session.

    Without a time limit, the system would wait a quarter of an hour for it.

    Raises:
        TimeoutError: none came in time.
    """
    session.pgconn.send_query(b"SELECT 1")
    session.pgconn.flush()
    until = time.monotonic() + _ANSWER_SECONDS
    while session.pgconn.is_busy() or session.pgconn.get_result() is not None:
        left = until - time.monotonic()
        if session.pgconn.is_busy() and not _is_readable(session, max(0.0, left)):
            raise TimeoutError(f"The database did not answer within {_ANSWER_SECONDS:g} s.")
        session.pgconn.consume_input()


def _is_readable(session: Any, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(session.fileno(), selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _arrived(session: Any, seconds: float) -> bool:
    """Wait up to `seconds` for notifications; return whether some arrived, and read them all."""
    if _read(session):
        return True
    if not _is_readable(session, seconds):
        return False
    session.pgconn.consume_input()
    return _read(session) > 0


def _read(session: Any) -> int:
    """Read the notifications that arrived; return their number."""
    number = 0
    while session.pgconn.notifies() is not None:
        number += 1
    return number
