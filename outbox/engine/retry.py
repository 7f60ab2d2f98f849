"""Whether the database is to blame for a failure, and how to get a working connection again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error, InterfaceError, OperationalError, connections

T = TypeVar("T")

_TRANSIENT_TRIES = 5

# PostgreSQL: class 08 connection, 40001 serialization, 40P01 deadlock, 55P03 lock not available,
# 57P01-57P03 shutdown. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_SQLSTATES = ("08", "40001", "40P01", "55P03", "57P01", "57P02", "57P03")
_TRANSIENT_TEXTS = ("database is locked", "database table is locked")
_LOST_CONNECTION_TEXTS = (
    "server closed the connection",
    "connection already closed",
    "the connection is closed",
    "the connection is lost",
    "terminating connection",
    "connection failed",
    "consuming input failed",
)


def is_transient(error: BaseException) -> bool:
    """Return whether the database, not the handler, is to blame: such a run is no attempt.

    True for deadlocks, serialization failures, lost connections and SQLite's "locked".
    """
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None) or ""
    if state.startswith(_TRANSIENT_SQLSTATES):
        return True
    text = str(error).lower()
    return isinstance(error, OperationalError | InterfaceError) and any(
        part in text for part in _TRANSIENT_TEXTS + _LOST_CONNECTION_TEXTS
    )


def drop_broken_connection(*, using: str) -> None:
    """Close this thread's connection if it broke, so that the next query opens a new one."""
    connection = connections[using]
    if not connection.in_atomic_block:  # a test's transaction: there is nothing to reconnect to
        connection.close_if_unusable_or_obsolete()


def retry_transient(action: Callable[[], T], *, using: str) -> T:
    """Do it again, at once and a few times, while the database is to blame that it failed."""
    for failed in range(1, _TRANSIENT_TRIES):
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            drop_broken_connection(using=using)
            time.sleep(random.uniform(0, 0.05) * failed)
    return action()
