"""Periodic jobs without beat: each runs once per interval, in one of the working processes.

The row of a job in `outbox_heartbeat` has the time of its last run. The process that moves this
time forward, in one statement, runs the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from threading import Event

from django.db import connections
from django.db.models import Q

from outbox import clock, databases, operations
from outbox.alerts.watch import end_unwatched
from outbox.conf import conf
from outbox.deliveries.connections import drop_all
from outbox.deliveries.heartbeat import CLOCK_TOLERANCE
from outbox.models import Heartbeat
from outbox.sources.forgetting import forget_received

logger = logging.getLogger("outbox.local")

#: Longest duration of one run of pruning. The next run continues.
_PRUNING = timedelta(seconds=2)
_LOOK_SECONDS = 10.0


def prune() -> None:
    """Prune by `OUTBOX["RETENTION"]`, if it is set, and delete old ids of received messages.

    Alerts that no check watches end, too.
    """
    # A failure, such as a full disk, prevents none of the others. The stack calls the last first.
    with ExitStack() as others:
        others.callback(end_unwatched)
        others.callback(forget_received, at_most=_PRUNING)
        if conf().RETENTION:
            operations.prune(at_most=_PRUNING, by="outbox.prune")


#: Each job by its name, with the time between two runs.
JOBS: Mapping[str, tuple[timedelta, Callable[[], None]]] = {
    "outbox.prune": (timedelta(seconds=300), prune)
}


class PeriodicJobs:
    """Runs the jobs that are due, until stopped. It runs in one thread.

    Args:
        stopping: ends the loop.
        using: the outbox's database alias.
    """

    def __init__(self, stopping: Event, *, using: str) -> None:
        self._stopping = stopping
        self._using = using

    def run(self) -> None:
        """Look for due jobs every ten seconds, until stopped."""
        try:
            while not self._stopping.wait(_LOOK_SECONDS):
                for name, (every, job) in JOBS.items():
                    self._run_if_due(name, every, job)
                connections.close_all()  # seldom used, and the server may end it meanwhile
        finally:
            connections.close_all()

    def _run_if_due(self, name: str, every: timedelta, job: Callable[[], None]) -> None:
        try:
            with databases.serving(self._using):
                if claim(name, every=every, using=self._using):
                    job()
        except Exception:
            logger.exception("The periodic job %s failed. It runs again in %s.", name, every)
            drop_all()


def claim(name: str, *, every: timedelta, using: str) -> bool:
    """Return whether this process has to run a job now: no other one did within `every`."""
    now = clock.now(using=using)
    rows = Heartbeat.objects.using(using)
    values = {"kind": Heartbeat.Kind.BEAT, "name": name, "started_at": now, "seen_at": now - every}
    rows.bulk_create([Heartbeat(**values)], ignore_conflicts=True)
    # A run in the future was stored before the clock went back.
    is_due = Q(seen_at__lte=now - every) | Q(seen_at__gt=now + CLOCK_TOLERANCE)
    mine = rows.filter(is_due, kind=Heartbeat.Kind.BEAT, name=name)
    return bool(mine.update(seen_at=now))
