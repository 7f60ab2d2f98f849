"""Signs of life: relays, workers and beat say every few seconds that they are there.

One small row a process, written by an upsert that costs next to nothing and never raises: whoever
cannot say that it lives must not die of that. So `why`, `doctor` and a monitor can say "the relay
was not seen for 40 s" or "no worker of the queue inventory" without asking the broker.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Min
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.conf import conf
from outbox.fork_safety import apart_from_forks
from outbox.formatting import span
from outbox.models import Heartbeat

from .transient_errors import DatabaseAccess, drop_broken_connection

logger = logging.getLogger("outbox.heartbeat")

Kind = Heartbeat.Kind

#: Seconds after an outage of the database in which workers extend the leases that passed in it.
_OUTAGE_GRACE = timedelta(seconds=10)
#: An outage may have begun so long before a process noticed it.
_OUTAGE_NOTICED_WITHIN = timedelta(seconds=15)

#: So many heartbeats may fail to come before a process is said to be silent.
_MISSED = 3
_FORGOTTEN = timedelta(days=1)

_started: dict[tuple[str, str], datetime] = {}
_written: dict[tuple[str, str], float] = {}


@dataclass(frozen=True, kw_only=True)
class Sign:
    """The latest sign of life of its kind.

    Attributes:
        at: when it was, or None if there never was one.
        is_fresh: it is recent enough that its process is presumed to live.
    """

    at: datetime | None = None
    is_fresh: bool = False

    def age(self, now: datetime) -> str:
        """Return how long ago it was, in words."""
        return span(now - self.at) if self.at else ""


def beat(kind: str, name: str, *, queues: Sequence[str] = (), using: str | None = None) -> None:
    """Say that this process lives; at most every `OUTBOX["HEARTBEAT_SECONDS"]`. Never raises."""
    using = using or databases.alias()
    pair, now = (kind, name), time.monotonic()
    try:
        if now - _written.get(pair, -1e9) < conf().HEARTBEAT_SECONDS:
            return
        _written[pair] = now
        drop_broken_connection(using=using)
        _write(pair, sorted(queues), using=using)
    except Exception as error:
        logger.debug("no heartbeat of %s %s: %s", kind, name, error)
        with suppress(Exception):
            drop_broken_connection(using=using)


def answer(canary: str, *, using: str | None = None) -> None:
    """Write that a canary was taken; the doctor that sent it removes the row."""
    using = using or databases.alias()
    now = clock.now(using=using)
    _upsert(Heartbeat(kind=Kind.CANARY, name=canary, started_at=now, seen_at=now), using=using)


def record_outage(seconds: float, *, using: str) -> None:
    """Store that this thread could not reach the database for so many seconds, until now.

    A row for each thread, which has its latest outage only. So a host that loses its connection
    again and again extends no outage, and no relay waits for ever for workers to report.
    """
    now = clock.now(using=using)
    began = now - timedelta(seconds=seconds) - _OUTAGE_NOTICED_WITHIN
    name = f"{own_name()}.{threading.get_native_id()}"
    _upsert(Heartbeat(kind=Kind.OUTAGE, name=name, started_at=began, seen_at=now), using=using)


def report_outage(access: DatabaseAccess) -> None:
    """Store for how long this process could not reach the database, if it could not."""
    if seconds := access.unreachable_seconds:
        record_outage(seconds, using=access.using)


def recent_outage(now: datetime, *, using: str) -> datetime | None:
    """Return when the first of the outages began that ended a moment ago.

    Workers that survived it extend their leases now. A lease that passed since then tells nothing
    about its worker yet.
    """
    rows = Heartbeat.objects.using(using).filter(kind=Kind.OUTAGE, seen_at__gt=now - _OUTAGE_GRACE)
    began: datetime | None = rows.aggregate(began=Min("started_at"))["began"]
    return began


def own_name() -> str:
    """Name this process: "host.pid"."""
    return f"{socket.gethostname()}.{os.getpid()}"


def latest(kind: str, *, queue: str = "", using: str | None = None) -> Sign:
    """Return the latest sign of life of a kind; of workers of one queue, if one is named."""
    using = using or databases.alias()
    rows = Heartbeat.objects.using(using).filter(kind=kind).order_by("-seen_at")
    for seen_at, queues in rows.values_list("seen_at", "queues"):
        if not queue or queue in queues:
            return Sign(at=seen_at, is_fresh=clock.now(using=using) - seen_at < stale_after())
    return Sign()


def workers(*, using: str | None = None) -> dict[str, Sign]:
    """Return the latest sign of life of each queue's workers, in one read."""
    using = using or databases.alias()
    rows = Heartbeat.objects.using(using).filter(kind=Kind.WORKER).order_by("seen_at")
    fresh = clock.now(using=using) - stale_after()
    return {
        queue: Sign(at=seen_at, is_fresh=seen_at > fresh)
        for seen_at, queues in rows.values_list("seen_at", "queues")
        for queue in queues
    }


def stale_after() -> timedelta:
    """Return after how much silence a process is presumed to be gone."""
    return timedelta(seconds=_MISSED * conf(lenient=True).HEARTBEAT_SECONDS)


def relay_clue(now: datetime, *, using: str | None) -> str:
    """Say what is known of the relay, to end a sentence about what it should have done."""
    sign = latest(Kind.RELAY, using=using)
    if sign.is_fresh:
        text = _("a relay was seen %(age)s ago; `manage.py outbox doctor` looks further.")
    elif sign.at:
        text = _("the relay was not seen for %(age)s: is a worker of the queue outbox running?")
    else:
        text = _("no relay was seen: is a worker of the queue outbox running?")
    return text % {"age": sign.age(now)}


def worker_clue(queue: str, now: datetime, *, using: str | None) -> str:
    """Say what is known of a queue's workers, to end a sentence."""
    sign = latest(Kind.WORKER, queue=queue, using=using)
    if sign.is_fresh:
        text = _("a worker of it was seen %(age)s ago; `manage.py outbox doctor` looks further.")
    elif sign.at:
        text = _("no worker on queue %(queue)s was seen for %(age)s: is one running?")
    else:
        text = _("no worker on queue %(queue)s was seen: is one running?")
    return text % {"age": sign.age(now), "queue": queue}


class HeartbeatThread(threading.Thread):
    """Beats for a worker until stopped, on a connection of its own."""

    def __init__(self, name: str, queues: Callable[[], Sequence[str]]) -> None:
        super().__init__(name="outbox-heartbeat", daemon=True)
        self._worker = name
        self._queues = queues
        self._stopping = threading.Event()

    def run(self) -> None:
        """Beat, wait, beat."""
        try:
            while not self._stopping.is_set():
                with apart_from_forks():  # the pool's children are forked from this process
                    beat(Kind.WORKER, self._worker, queues=self._queues())
                self._stopping.wait(conf(lenient=True).HEARTBEAT_SECONDS)
        finally:
            connections.close_all()

    def stop(self) -> None:
        """End; nobody waits for a heartbeat."""
        self._stopping.set()


def _write(pair: tuple[str, str], queues: Sequence[str], *, using: str) -> None:
    now = clock.now(using=using)
    rows = Heartbeat.objects.using(using)
    if pair not in _started:
        rows.filter(seen_at__lt=now - _FORGOTTEN).delete()
    kind, name = pair
    began = _started.setdefault(pair, now)
    _upsert(
        Heartbeat(
            kind=kind,
            name=name[:200],
            queues=list(queues),
            started_at=began,
            seen_at=now,
            host_offset=clock.host_offset(using=using).total_seconds(),
        ),
        using=using,
    )


def _upsert(row: Heartbeat, *, using: str) -> None:
    Heartbeat.objects.using(using).bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["kind", "name"],
        update_fields=["queues", "started_at", "seen_at", "host_offset"],
    )
