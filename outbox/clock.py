"""The common clock of all hosts: the clock of the outbox's database.

One host writes leases, due times and heartbeats, and another compares them. If each host used its
own clock, a relay that is 90 s ahead would declare the workers of all other hosts dead. On
PostgreSQL `now()` is therefore the time of the database server. This process measures the offset
between the server's `clock_timestamp()` and its own steady clock every 30 s. The error is at most
half of the round trip plus the drift since then. On SQLite all processes share a host and use its
clock.

Within `host_time()` the host's clock is used. Tests can move it with tools such as `time-machine`.
`outbox.testing` does this for every test.
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

#: Lifetime of a measurement, in seconds. Oscillators drift by less than 0.1 ms per second.
_LIFETIME = 30.0
#: A measurement with a longer round trip, in seconds, is repeated. The most exact one is used.
_ROUND_TRIP = 0.05
_TRIES = 3


@dataclass(frozen=True)
class _Measurement:
    """The offset between the database's clock and this host's steady clock.

    Attributes:
        ahead: seconds to add to the steady clock.
        error: largest error of `ahead`, in seconds, in both directions.
        at: time of the measurement, by the steady clock.
    """

    ahead: float
    error: float
    at: float


_measured: dict[str, _Measurement] = {}
_is_host_time = False


def now(*, using: str | None = None) -> datetime:
    """Return the present time by the clock of a database.

    Args:
        using: the database's alias. None: the outbox's database.

    Raises:
        django.db.Error: the database cannot be read, and this process has no measurement yet.
    """
    using = using or databases.alias()
    if not _is_database_time(using):
        return timezone.now()
    return datetime.fromtimestamp(_steady() + _measurement(using).ahead, UTC)


def expression(*, using: str) -> tuple[str, list[Any]]:
    """Return SQL for the present time, and its parameters.

    For callers such as `emit()`, which must not execute a second statement.
    """
    if _is_database_time(using):
        return "clock_timestamp()", []
    return "%s", [connections[using].ops.adapt_datetimefield_value(timezone.now())]


def host_offset(*, using: str | None = None) -> timedelta:
    """Return how far this host's wall clock is ahead of the database's."""
    return timezone.now() - now(using=using)


def forget(*, using: str) -> None:
    """Measure again at the next use, because the next connection may lead to another server.

    Until that succeeds, all threads of this process use the old measurement.
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
    """Return seconds of a clock that is independent of changes to the host's wall clock."""
    # CLOCK_BOOTTIME also counts while the host is suspended. Not every platform has it.
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)
