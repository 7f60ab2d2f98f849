"""The clock by which hosts agree: that of the outbox's database.

Leases, due times and heartbeats are written by one host and compared by another. If each used its
own clock, a relay that is 90 s ahead would declare the workers of all others dead. On PostgreSQL
`now()` is therefore the time of the database server: this process measures how far the server's
`clock_timestamp()` is from its own steady clock, and measures again every half minute. The error
is at most half of the round trip plus the drift since then. On SQLite all processes share a host,
and its clock is used.

Tests control it: within `host_time()` the host's clock counts, which `time-machine` and its like
can move. `outbox.testing` does this for every test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from django.db import Error, connections
from django.utils import timezone

from . import databases

#: A measurement counts so long, in seconds. Oscillators drift by less than 0.1 ms per second.
_LIFETIME = 30.0
#: A measurement with a longer round trip, in seconds, is repeated, and the best one counts.
_ROUND_TRIP = 0.05
_TRIES = 3


@dataclass(frozen=True)
class _Measurement:
    """How far the database's clock is ahead of this host's steady clock.

    Attributes:
        ahead: seconds to add to the steady clock.
        error: seconds by which `ahead` may be wrong, in both directions.
        at: when it was measured, by the steady clock.
    """

    ahead: float
    error: float
    at: float


_measured: dict[str, _Measurement] = {}
_is_host_time = False


def now(*, using: str | None = None) -> datetime:
    """Return the present time by the clock of a database.

    Args:
        using: the database's alias; None: that of the outbox.

    Raises:
        django.db.Error: the database cannot be asked, and never could be in this process.
    """
    using = using or databases.alias()
    if not _is_database_time(using):
        return timezone.now()
    return datetime.fromtimestamp(_steady() + _measurement(using).ahead, UTC)


def expression(*, using: str) -> tuple[str, list[Any]]:
    """Return SQL for the present time, and its parameters.

    For a statement of a caller that must not cause another one, as `emit()` must not.
    """
    if _is_database_time(using):
        return "clock_timestamp()", []
    return "%s", [connections[using].ops.adapt_datetimefield_value(timezone.now())]


def host_offset(*, using: str | None = None) -> timedelta:
    """Return how far this host's wall clock is ahead of the database's."""
    return timezone.now() - now(using=using)


def forget(*, using: str) -> None:
    """Measure again at the next occasion: the next connection may lead to another server.

    Until that succeeds the old measurement counts, also for the other threads of this process.
    """
    if known := _measured.get(using):
        _measured[using] = replace(known, at=-math.inf)


@contextmanager
def host_time() -> Iterator[None]:
    """Use the host's clock within the block, in all threads of this process. For tests."""
    global _is_host_time
    before, _is_host_time = _is_host_time, True
    try:
        yield
    finally:
        _is_host_time = before


def _is_database_time(using: str) -> bool:
    return connections[using].vendor == "postgresql" and not _is_host_time


def _measurement(using: str) -> _Measurement:
    known = _measured.get(using)
    if known and _steady() - known.at < _LIFETIME:
        return known
    try:
        found = _measure(using)
        for _ in range(_TRIES - 1):
            if found.error > _ROUND_TRIP:
                found = min(found, _measure(using), key=attrgetter("error"))
    except Error:
        if known is None:
            raise
        return known
    _measured[using] = found
    return found


def _measure(using: str) -> _Measurement:
    with connections[using].cursor() as cursor:
        before = _steady()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        after = _steady()
        [seconds] = cursor.fetchone()
    return _Measurement(float(seconds) - (before + after) / 2, (after - before) / 2, after)


def _steady() -> float:
    """Return seconds that no change of the host's clock moves."""
    # Where there is one, a clock that also counts while the host is suspended.
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)
