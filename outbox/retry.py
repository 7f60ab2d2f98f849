"""When to try again and when to stop; no row is touched here."""

from __future__ import annotations

import random
from datetime import timedelta

from django.db import Error, InterfaceError, OperationalError, connections

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


def backoff(
    *, attempt: int, base: float, cap: float, rng: random.Random | None = None
) -> timedelta:
    """Return how long to wait after the `attempt`-th attempt failed.

    Exponential with full jitter: uniform between zero and min(cap, base * 2**(attempt - 1)).
    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Args:
        attempt: number of the attempt that failed, from 1.
        base: seconds, the longest wait after the first attempt.
        cap: seconds, the longest wait of all.
        rng: source of randomness, for tests.
    """
    ceiling = min(cap, base * 2 ** min(attempt - 1, 60))
    return timedelta(seconds=(rng or random).uniform(0, ceiling))


def is_last(*, attempts: int, limit: int | None) -> bool:
    """Return whether the `attempts`-th attempt was the last one (`limit` None: there is none)."""
    return limit is not None and attempts >= limit


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
