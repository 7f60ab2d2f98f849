"""Heartbeats: relays, workers and beat record every few seconds that they run.

Each process has one small row. A cheap upsert writes it and never raises, because a failed
heartbeat must not end a process. `monitor.health` reads the rows.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Min

from outbox import clock, databases
from outbox.conf import conf
from outbox.fork_safety import apart_from_forks
from outbox.models import Heartbeat

from .transient_errors import DatabaseAccess, drop_broken_connection

logger = logging.getLogger("outbox.heartbeat")

Kind = Heartbeat.Kind

#: Time after a database outage in which workers extend the leases that expired during it.
_OUTAGE_GRACE = timedelta(seconds=10)
#: Longest time between the start of an outage and its detection by a process.
_OUTAGE_NOTICED_WITHIN = timedelta(seconds=15)

#: Number of missed heartbeats after which a process counts as silent.
_MISSED = 3
#: Age at which a heartbeat row is deleted.
KEPT_FOR = timedelta(days=1)
#: A time that is further in the future was stored before the clock went back.
CLOCK_TOLERANCE = timedelta(seconds=60)

#: Width of the column.
_FAILURE_LENGTH = 300

#: A process in a database: alias, kind and name.
_Place = tuple[str, str, str]
_started: dict[_Place, datetime] = {}
_written: dict[_Place, float] = {}
#: The processes whose latest heartbeat had a failure.
_failing: set[_Place] = set()


def beat(
    kind: str,
    name: str,
    *,
    queues: Sequence[str] = (),
    failure: str = "",
    using: str | None = None,
) -> None:
    """Write a heartbeat, at most every `OUTBOX["HEARTBEAT_SECONDS"]` seconds. Never raises.

    Write one at once when a failure begins or ends: it changes what an operator sees.

    Args:
        kind: the kind of the process.
        name: its name.
        queues: the queues that it consumes.
        failure: why the process runs and does not work, without personal data; "" if it works.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    place, now = (using, kind, name), time.monotonic()
    try:
        is_changed = bool(failure) != (place in _failing)
        if not is_changed and now - _written.get(place, -1e9) < conf().HEARTBEAT_SECONDS:
            return
        _written[place] = now
        (_failing.add if failure else _failing.discard)(place)
        drop_broken_connection(using=using)
        _write(place, sorted(queues), failure=failure)
    except Exception as error:
        logger.debug("no heartbeat of %s %s: %s", kind, name, error)
        with suppress(Exception):
            drop_broken_connection(using=using)


def answer(canary: str, *, using: str | None = None) -> None:
    """Record that a worker received a canary; the doctor that sent it deletes the row."""
    using = using or databases.alias()
    now = clock.now(using=using)
    _upsert(Heartbeat(kind=Kind.CANARY, name=canary, started_at=now, seen_at=now), using=using)


def record_outage(seconds: float, *, using: str) -> None:
    """Store that this thread could not reach the database for `seconds` until now.

    Each thread has one row with its latest outage only. So a host that loses its connection
    repeatedly extends no outage, and no relay waits for workers forever.
    """
    now = clock.now(using=using)
    began = now - timedelta(seconds=seconds) - _OUTAGE_NOTICED_WITHIN
    name = f"{own_name()}.{threading.get_native_id()}"
    _upsert(Heartbeat(kind=Kind.OUTAGE, name=name, started_at=began, seen_at=now), using=using)


def report_outage(access: DatabaseAccess) -> None:
    """Store the outage that `access` has measured, if there was one."""
    if seconds := access.unreachable_seconds:
        record_outage(seconds, using=access.using)


def recent_outage(now: datetime, *, using: str) -> datetime | None:
    """Return the earliest start of the outages that have just ended; None without one.

    Workers that survived are extending their leases now. So a lease that expired since that start
    does not yet mean that its worker died.
    """
    rows = Heartbeat.objects.using(using).filter(kind=Kind.OUTAGE, seen_at__gt=now - _OUTAGE_GRACE)
    began: datetime | None = rows.aggregate(began=Min("started_at"))["began"]
    return began


def own_name() -> str:
    """Return the name of this process: "host.pid"."""
    return f"{socket.gethostname()}.{os.getpid()}"


def stale_after() -> timedelta:
    """Return the time without a heartbeat after which a process is presumed dead."""
    return timedelta(seconds=_MISSED * conf(lenient=True).HEARTBEAT_SECONDS)


class HeartbeatThread(threading.Thread):
    """Thread that writes the heartbeats of a worker or of beat, on a separate connection.

    Args:
        name: the process's name.
        queues: returns the queues that it consumes.
        kind: the kind of the process.
        using: the outbox's database alias.
    """

    def __init__(
        self,
        name: str,
        queues: Callable[[], Sequence[str]],
        *,
        kind: str = Kind.WORKER,
        using: str | None = None,
    ) -> None:
        super().__init__(name="outbox-heartbeat", daemon=True)
        self._process = name
        self._queues = queues
        self._kind = kind
        self._using = using
        self._stopping = threading.Event()

    def run(self) -> None:
        """Write heartbeats until stopped."""
        try:
            while not self._stopping.is_set():
                with apart_from_forks():  # the pool's children are forked from this process
                    beat(self._kind, self._process, queues=self._queues(), using=self._using)
                self._stopping.wait(conf(lenient=True).HEARTBEAT_SECONDS)
        finally:
            connections.close_all()

    def stop(self) -> None:
        """Stop without waiting for the thread."""
        self._stopping.set()


def threads(
    name: str, queues: Callable[[], Sequence[str]], *, kind: str = Kind.WORKER
) -> databases.OnEach[HeartbeatThread]:
    """Return the threads that write a process's heartbeats, one for each database."""
    return databases.OnEach(
        {
            using: HeartbeatThread(name, queues, kind=kind, using=using)
            for using in databases.aliases()
        }
    )


def _write(place: _Place, queues: Sequence[str], *, failure: str) -> None:
    using, kind, name = place
    now = clock.now(using=using)
    rows = Heartbeat.objects.using(using)
    if place not in _started:
        rows.filter(seen_at__lt=now - KEPT_FOR).delete()
    began = _started.setdefault(place, now)
    _upsert(
        Heartbeat(
            kind=kind,
            name=name[:200],
            queues=list(queues),
            started_at=began,
            seen_at=now,
            host_offset=clock.host_offset(using=using).total_seconds(),
            failure=failure[:_FAILURE_LENGTH],
        ),
        using=using,
    )


def _upsert(row: Heartbeat, *, using: str) -> None:
    Heartbeat.objects.using(using).bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["kind", "name"],
        update_fields=["queues", "started_at", "seen_at", "host_offset", "failure"],
    )
