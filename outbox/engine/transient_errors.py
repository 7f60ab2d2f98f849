"""Errors that are the database's fault: retry at once, or wait until it can be reached.

Two kinds are told apart by a question to the database. If it answers, the error (a deadlock, a
lock, one lost connection) is retried at once, a few times. If it cannot be reached, nothing is
counted: the process waits, however long the outage lasts.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from traceback import walk_tb
from typing import TypeVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from outbox import clock

from .connections import drop

logger = logging.getLogger("outbox.database")

T = TypeVar("T")

_TRIES = 5
#: Seconds between two attempts to reach the database: the first wait and the longest one.
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_REPORT_EVERY = 30.0

# PostgreSQL: class 08 connection, 25006 read-only (a primary that became a standby), 25P03 and 25P04
# transaction timeouts, which end the session, 40001 serialization, 40P01 deadlock, 55P03 lock not
# available, 57P01-57P03 shutdown, 57P05 idle session timeout.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_SQLSTATES = (
    "08",
    "25006",
    "25P03",
    "25P04",
    "40001",
    "40P01",
    "55P03",
    "57P01",
    "57P02",
    "57P03",
    "57P05",
)
_TRANSIENT_TEXTS = (
    "database is locked",
    "database table is locked",
    "server closed the connection",
    "connection already closed",
    "the connection is closed",
    "the connection is lost",
    "terminating connection",
    "connection failed",
    "consuming input failed",
)


def is_transient(error: BaseException, *, using: str) -> bool:
    """Return whether an error is the fault of this database, not of the code that used it.

    True for deadlocks, serialization failures, lock timeouts, lost connections, and SQLite's
    "locked". An error of another database is an ordinary failure of the code.
    """
    if not isinstance(error, Error):
        return False
    database = database_of(error)
    if database not in (using, None):
        return False
    state = getattr(error.__cause__, "sqlstate", None) or ""
    if state.startswith(_TRANSIENT_SQLSTATES):
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    text = str(error).lower()
    if any(part in text for part in _TRANSIENT_TEXTS):
        return True
    return database == using and _is_lost(connections[using])


def database_of(error: BaseException) -> str | None:
    """Return the alias of the database that raised an error; None if no database did.

    Django's exceptions do not name it, but the frames that they passed through do.
    """
    found = None
    for frame, _line in walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, DatabaseErrorWrapper):
            found = owner.wrapper.alias  # type: ignore[attr-defined]  # not in the stubs
        elif isinstance(owner, CursorWrapper):
            found = owner.db.alias
        elif isinstance(owner, BaseDatabaseWrapper):
            found = owner.alias
    return found


def drop_broken_connection(*, using: str) -> None:
    """Close this thread's connection if it broke, so that the next query opens a new one."""
    connection = connections[using]
    if not connection.in_atomic_block:  # else it is a test's: there is nothing to reconnect to
        connection.close_if_unusable_or_obsolete()


class DatabaseAccess:
    """Access to the outbox's database that outlasts its outages.

    Args:
        using: the database's alias.
        sleep: waits for so many seconds; returns true to give up waiting.

    Attributes:
        outages: how many outages there were so far.
        outage_seconds: how long the latest one was waited for.
    """

    def __init__(self, using: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self.using = using
        self.outages = 0
        self.outage_seconds = 0.0
        self._sleep = sleep
        self._after_outage: list[Callable[[], object]] = []

    def after_outage(self, action: Callable[[], object]) -> None:
        """Have `action` run after each outage, as soon as the database can be reached."""
        self._after_outage.append(action)

    def run(self, action: Callable[[], T], *, through_outages: bool = True) -> T:
        """Run `action`, again after a transient error: after five of them its error is raised.

        An outage is waited for and is not counted. `through_outages=False` raises its error
        afterwards, for an action that must not be repeated so late.
        """
        tries = 0
        while True:
            try:
                return action()
            except Exception as error:
                if not is_transient(error, using=self.using):
                    raise
                if self.recover():
                    if not through_outages:
                        raise
                    continue
                tries += 1
                if tries == _TRIES:
                    raise
            time.sleep(random.uniform(0, 0.05) * tries)

    def recover(self) -> bool:
        """Get a working connection again; return whether there was an outage.

        There was none if the database could be reached at once.
        """
        if connections[self.using].in_atomic_block:  # of a test: there is nothing to reconnect to
            return False
        drop_broken_connection(using=self.using)
        clock.forget(using=self.using)  # the next connection may lead to another server
        seconds = wait_until_reachable(using=self.using, sleep=self._sleep)
        if not seconds:
            return False
        self.outages, self.outage_seconds = self.outages + 1, seconds
        for action in self._after_outage:
            self.run(action)
        return True


def retry_transient(action: Callable[[], T], *, using: str) -> T:
    """Run `action` as `DatabaseAccess.run` does."""
    return DatabaseAccess(using).run(action)


def wait_until_reachable(*, using: str, sleep: Callable[[float], object] = time.sleep) -> float:
    """Wait until the database accepts statements that write.

    Each wait is twice as long as the one before, up to two seconds. The log reports the outage
    when it is noticed, every half minute, and when it is over.

    Args:
        using: the database's alias.
        sleep: waits for so many seconds; returns true to give up waiting.

    Returns:
        The seconds that it took; 0 if the database answered at once.
    """
    began = reported = time.monotonic()
    wait, seconds = _FIRST_WAIT, 0.0
    while error := _why_unreachable(using):
        seconds = time.monotonic() - began
        if wait == _FIRST_WAIT or time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            logger.warning("The database %s cannot be reached; waiting: %s", using, error)
        if sleep(wait * random.uniform(0.5, 1)):
            break
        wait = min(wait * 2, _LONGEST_WAIT)
        seconds = time.monotonic() - began
    if seconds:
        logger.warning("Waited %.1f s for the database %s.", seconds, using)
    return seconds


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a connection is closed, or known to be broken."""
    raw = connection.connection
    return raw is None or bool(getattr(raw, "closed", False))


def _why_unreachable(using: str) -> Exception | None:
    """Return the error that keeps this thread from writing to the database, if there is one."""
    connection = connections[using]
    try:
        with connection.cursor() as cursor:
            if connection.vendor != "postgresql":
                cursor.execute("SELECT 1")
                return None
            cursor.execute("SHOW transaction_read_only")
            [is_read_only] = cursor.fetchone()
    except Error as error:
        drop(connection)
        return error
    if is_read_only == "on":  # a standby, or a primary that is no longer one
        drop(connection)
        return OperationalError("it is read-only")
    return None
