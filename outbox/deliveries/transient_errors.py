"""Errors that are the database's fault: retry at once, or wait until it can be reached.

A query to the database distinguishes two kinds. If the database answers, the action (after a
deadlock, a lock, one lost connection) is retried at once, a few times. If it is unreachable, no
try is counted: the process waits, however long the outage lasts.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from outbox import clock

from .connections import drop
from .time_limit import TimeLimitExceeded

logger = logging.getLogger("outbox.database")

T = TypeVar("T")

#: A statement or connection that takes this many seconds may have waited for a silent network or a
#: frozen server.
HUNG_SECONDS = 2.0

_TRIES = 5
#: Seconds between two attempts to reach the database: the first wait and the longest one.
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_REPORT_EVERY = 30.0

# PostgreSQL: class 08 connection, 25006 read-only (a primary that became a standby), 25P03 and
# 25P04 timeouts of a transaction, which end the session, 40001 serialization, 40P01 deadlock,
# 55P03 lock not available, 57P01-57P03 shutdown, 57P05 timeout of an idle session.
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


def sqlstate_of(error: BaseException) -> str:
    """Return PostgreSQL's code of an error, "" without one. psycopg 2 has it as `pgcode`."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""


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
    state = sqlstate_of(error)
    if state.startswith(_TRANSIENT_SQLSTATES):
        return True
    if state and not _ended_the_session(error):  # the connection was closed later, by another cause
        return False
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    text = str(error).lower()
    if any(part in text for part in _TRANSIENT_TEXTS):
        return True
    return database == using and _is_lost(connections[using])


def is_interrupted_statement(error: BaseException, *, using: str) -> bool:
    """Return whether a time limit has interrupted a handler within a statement of this database.

    Nothing else detects a silent network or a frozen server.
    """
    if not isinstance(error, TimeLimitExceeded):
        return False
    return using in (database_of(error), error.__cause__ and database_of(error.__cause__))


def database_of(error: BaseException) -> str | None:
    """Return the alias of the database that raised an error; None if no database did.

    Django's exceptions do not name it, but the frames of their traceback do.
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


def _ended_the_session(error: BaseException) -> bool:
    """Return whether PostgreSQL ended the session with this error."""
    severity = getattr(getattr(error.__cause__, "diag", None), "severity_nonlocalized", None)
    return severity in ("FATAL", "PANIC")


def is_reachable(*, using: str) -> bool:
    """Return whether this thread can write to the database. Drop a connection that fails."""
    return why_unreachable(using) is None


def drop_broken_connection(*, using: str) -> None:
    """Close this thread's connection if it broke, so that the next query opens a new one."""
    connection = connections[using]
    if not connection.in_atomic_block:  # a test's transaction must not reconnect
        connection.close_if_unusable_or_obsolete()


class WaitGivenUp(Exception):
    """The process is stopping and has given up waiting for the database."""


class DatabaseAccess:
    """Access to the outbox's database that outlasts its outages.

    Args:
        using: the database's alias.
        sleep: waits for the given seconds; returns true to give up waiting.

    Attributes:
        outages: number of outages so far.
        outage_seconds: wait before the latest reconnection; 0 without an outage.
        hung_seconds: duration of the slowest statement within `timed`.
    """

    def __init__(self, using: str, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self.using = using
        self.outages = 0
        self.outage_seconds = 0.0
        self.hung_seconds = 0.0
        self._sleep = sleep
        self._after_reconnect: list[Callable[[], object]] = []
        self._is_recovering = self._is_lost_again = False
        #: The driver's connection that was last known to work.
        self._known: Any = None

    @property
    def has_hung(self) -> bool:
        """Whether a statement within `timed` took so long that the database may have been down."""
        return self.hung_seconds >= HUNG_SECONDS

    @property
    def unreachable_seconds(self) -> float:
        """Seconds for which the database was, or may have been, unreachable; 0 if it was not."""
        return max(self.outage_seconds, self.hung_seconds if self.has_hung else 0.0)

    def after_reconnect(self, action: Callable[[], object]) -> None:
        """Register `action` to run after each lost connection, once the database is reachable.

        Actions run in the order in which they were registered. An error of one is logged.
        """
        self._after_reconnect.append(action)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the duration of the block's statements."""
        with connections[self.using].execute_wrapper(self._time):
            yield

    def _time(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        if self._known is None:
            self._known = context["connection"].connection
        began = time.monotonic()
        try:
            return execute(sql, params, many, context)
        finally:
            self.hung_seconds = max(self.hung_seconds, time.monotonic() - began)

    def run(self, action: Callable[[], T], *, through_outages: bool = True) -> T:
        """Run `action`; retry it after transient errors, and raise the fifth one.

        After an outage, wait for its end and count no try. With `through_outages=False`, raise
        its error afterwards, for an action that must not be retried so late.
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

        There was none if the database was reachable at once. If the connection was lost, run the
        actions of `after_reconnect` in both cases, since it may have been silent for long.

        Raises:
            WaitGivenUp: `sleep` gave up waiting.
        """
        if connections[self.using].in_atomic_block:  # a test's transaction: do not reconnect
            return False
        connection = connections[self.using]
        # Django may have opened another connection, as the end of `atomic()` does.
        is_lost = _is_lost(connection) or connection.connection is not self._known
        is_lost = is_lost or not connection.is_usable()
        drop_broken_connection(using=self.using)
        clock.forget(using=self.using)  # the next connection may lead to another server
        seconds = wait_until_reachable(using=self.using, sleep=self._sleep)
        self.outages += seconds > 0
        self._known = connection.connection
        if seconds or is_lost:
            self.outage_seconds = seconds
            self._run_after_reconnect()
        return seconds > 0

    def _run_after_reconnect(self) -> None:
        if self._is_recovering:  # an action has lost the connection again
            self._is_lost_again = True
            return
        self._is_recovering = True
        try:
            for _ in range(_TRIES):
                self._is_lost_again = False
                for action in self._after_reconnect:
                    self._run_logged(action)
                if not self._is_lost_again:
                    return
        finally:
            self._is_recovering = False

    def _run_logged(self, action: Callable[[], object]) -> None:
        try:
            self.run(action)
        except WaitGivenUp:
            raise
        except Exception:  # the caller continues, since a token fences each further step
            logger.exception("A step after a lost connection to %s failed.", self.using)


def retry_transient(action: Callable[[], T], *, using: str) -> T:
    """Run `action` with the retries of `DatabaseAccess.run`."""
    return DatabaseAccess(using).run(action)


def wait_until_reachable(*, using: str, sleep: Callable[[float], object] = time.sleep) -> float:
    """Wait until the database accepts statements that write.

    Each wait is twice as long as the one before, up to two seconds. The log reports the outage
    when it is noticed, every half minute, and when it is over.

    Args:
        using: the database's alias.
        sleep: waits for the given seconds; returns true to give up waiting.

    Returns:
        Seconds waited; 0 if the database answered at once.

    Raises:
        WaitGivenUp: `sleep` gave up waiting.
    """
    began = reported = time.monotonic()
    wait = _FIRST_WAIT
    while error := why_unreachable(using):
        if wait == _FIRST_WAIT or time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            logger.warning("The database %s cannot be reached; waiting: %s", using, error)
        if sleep(wait * random.uniform(0.5, 1)):
            raise WaitGivenUp(f"The process stops and waits no longer for the database {using}.")
        wait = min(wait * 2, _LONGEST_WAIT)
    seconds = time.monotonic() - began
    # A frozen server refuses no connection; it answers late.
    if wait == _FIRST_WAIT and seconds < HUNG_SECONDS:
        return 0.0
    logger.warning("Waited %.1f s for the database %s.", seconds, using)
    return seconds


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a connection is closed, or known to be broken."""
    raw = connection.connection
    return raw is None or bool(getattr(raw, "closed", False))


def why_unreachable(using: str) -> Exception | None:
    """Return the error that prevents this thread from writing to the database, if any."""
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
    if is_read_only == "on":  # a standby, or a demoted primary
        drop(connection)
        return OperationalError("it is read-only")
    return None
