"""Health of each part of the system by its latest heartbeat.

No network requests: processes store their heartbeats, and only this module reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock, databases
from outbox.deliveries.heartbeat import CLOCK_TOLERANCE, KEPT_FOR, stale_after
from outbox.formatting import listing, one_line, span
from outbox.models import Heartbeat, SourceState, Subscription
from outbox.sources.configuration import received_sources
from outbox.sources.state import received_in
from outbox.transports import names
from outbox.transports.base import QUEUE

from .consumers import ConsumerStatus, consumer_statuses
from .failures import FailureGroup
from .refused import RefusedQueue, refused_queues
from .unserved import idle_queues

Kind = Heartbeat.Kind

#: Most failing handlers that a health text names.
_MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class LastSeen:
    """The latest heartbeat of a kind of process.

    Attributes:
        at: its time, or None if there never was one.
        is_fresh: it is recent enough that its process is presumed to run.
        queues: the queues that the process consumes.
        name: the name of the process.
        failure: why it runs and does not work; "" if it works.
    """

    at: datetime | None = None
    is_fresh: bool = False
    queues: tuple[str, ...] = ()
    name: str = ""
    failure: str = ""

    def age(self, now: datetime) -> str:
        """Return its age in words; "" if there never was one."""
        return span(now - self.at) if self.at else ""


#: The name of the heartbeat that the task of beat writes where it runs.
BEATS_TASK = "beat"


class Heartbeats:
    """The stored heartbeats of relays, workers, beat and the broker, read by one query.

    Attributes:
        now: the time of the read.
    """

    def __init__(self, *, using: str | None = None) -> None:
        using = using or databases.alias()
        self._using = using
        self.now = clock.now(using=using)
        rows = Heartbeat.objects.using(using).exclude(kind__in=(Kind.CANARY, Kind.OUTAGE))
        # Periodic jobs of `outbox work` have rows of the kind, too.
        rows = rows.exclude(kind=Kind.BEAT, name__startswith="outbox.")
        rows = rows.filter(seen_at__lte=self.now + CLOCK_TOLERANCE)
        self._rows = list(rows.order_by("-seen_at"))

    def latest(self, kind: str, *, queue: str = "", name: str = "") -> LastSeen:
        """Return the latest heartbeat of a kind; of workers, also by queue or name.

        Of beat it is that of its task: a process of beat may run and send no task.
        """
        if kind == Kind.BEAT:
            name = name or BEATS_TASK
        for row in self._rows:
            if row.kind == kind and (not queue or queue in row.queues) and name in ("", row.name):
                return self._seen(row)
        return LastSeen()

    def failing_relays(self) -> list[LastSeen]:
        """Return the relays that run and whose latest pass failed."""
        relays = (self._seen(row) for row in self._rows if row.kind == Kind.RELAY)
        return [one for one in relays if one.is_fresh and one.failure]

    def failing_relay(self) -> LastSeen | None:
        """Return a relay that runs and whose latest pass failed; None without one."""
        return next(iter(self.failing_relays()), None)

    def has_working_relay(self) -> bool:
        """Return whether a relay runs whose latest pass succeeded."""
        relays = (row for row in self._rows if row.kind == Kind.RELAY and not row.failure)
        return any(map(self._is_fresh, relays))

    def refused_queues(self) -> list[RefusedQueue]:
        """Return the queues that take no message from some process that runs, by name."""
        senders = (row for row in self._rows if row.kind == Kind.SENDER)
        return refused_queues(row for row in senders if self._is_fresh(row))

    def process_of_beat(self) -> tuple[LastSeen, datetime | None]:
        """Return the latest heartbeat of a process of beat, and when it started.

        A process writes none if its Celery app lacks the outbox, or with a release before this one.
        """
        for row in self._rows:
            if row.kind == Kind.BEAT and row.name != BEATS_TASK:
                return LastSeen(at=row.seen_at, is_fresh=self._is_fresh(row)), row.started_at
        return LastSeen(), None

    def workers(self, queue: str) -> int:
        """Return the number of workers with a recent heartbeat that consume a queue."""
        return self.running(Kind.WORKER, queue)

    def running(self, kind: str, queue: str) -> int:
        """Return the number of processes of a kind with a recent heartbeat and this queue.

        The queue of a receiver is its source.
        """
        mine = (row for row in self._rows if row.kind == kind and queue in row.queues)
        return sum(map(self._is_fresh, mine))

    def is_expected(self, source: str) -> bool:
        """Return whether a process has to receive a source into this database.

        Of several databases it has to be received into those where it was received within a day,
        and into the first one if it was received into no other one.
        """
        listed = databases.listed()
        if len(listed) < 2 or self.latest(Kind.RECEIVER, queue=source).at is not None:
            return True
        if databases.primary_of(self._using) != listed[0]:
            return False
        others = {received_in(source, one) for one in listed}
        rows = (row for row in self._rows if row.kind == Kind.RECEIVER)
        recent = (row for row in rows if self.now - row.seen_at < KEPT_FOR)
        return not any(others & {*row.queues} for row in recent)

    def silent_beside_others(self, *, within: timedelta) -> list[LastSeen]:
        """Return the silent relays and workers beside which another one does the same work.

        They were stopped, or their hosts are lost or cut off.

        Args:
            within: leave out those that have been silent for longer.
        """
        rows = [row for row in self._rows if row.kind in (Kind.RELAY, Kind.WORKER)]
        fresh = [row for row in rows if self._is_fresh(row)]
        late = (row for row in rows if row not in fresh and self.now - row.seen_at <= within)
        return [
            self._seen(row)
            for row in late
            if any(one.kind == row.kind and {*row.queues} <= {*one.queues} for one in fresh)
        ]

    def host_offsets(self) -> dict[str, timedelta]:
        """Return the measured offset from the database's clock of each running process."""
        kinds = (Kind.RELAY, Kind.WORKER, Kind.BEAT)
        rows = [row for row in self._rows if row.kind in kinds and self._is_fresh(row)]
        return {
            row.name: timedelta(seconds=row.host_offset)
            for row in sorted(rows, key=lambda row: row.name)
        }

    def relay_clue(self) -> str:
        """Return a sentence about the relay's last heartbeat, for an overdue step."""
        seen = self.latest(Kind.RELAY)
        if seen.is_fresh:
            text = _("A relay was seen %(age)s ago: check with `manage.py outbox doctor`.")
        elif seen.at:
            text = _("The relay was last seen %(age)s ago: check the worker of the queue outbox.")
            if not names.uses(names.CELERY):
                text = _("The relay was last seen %(age)s ago: check `manage.py outbox work`.")
        elif names.uses(names.CELERY):
            text = _("No relay was ever seen: start a worker of the queue outbox.")
        else:
            text = _("No relay was ever seen: start `manage.py outbox work`.")
        return text % {"age": seen.age(self.now)}

    def worker_clue(self, queue: str) -> str:
        """Return a sentence about the last heartbeat of a queue's workers."""
        seen, is_local = self.latest(Kind.WORKER, queue=queue), not names.uses(names.CELERY)
        if seen.is_fresh:
            text = _("A worker of it was seen %(age)s ago: check with `manage.py outbox doctor`.")
        elif seen.at:
            text = _("A worker of the queue %(queue)s was last seen %(age)s ago: check it.")
            if is_local:
                text = _(
                    "A process that serves the queue %(queue)s was last seen %(age)s ago: check "
                    "`manage.py outbox work`."
                )
        elif is_local:
            text = _(
                "No process that serves the queue %(queue)s was ever seen: start `manage.py outbox "
                "work`."
            )
        else:
            text = _("No worker of the queue %(queue)s was ever seen: start one.")
        return text % {"age": seen.age(self.now), "queue": queue}

    def queue_clue(self, queue: str) -> str:
        """Return the clue about the queue's workers if they are silent, otherwise the relay's."""
        has_worker = self.latest(Kind.WORKER, queue=queue).is_fresh
        return self.relay_clue() if has_worker else self.worker_clue(queue)

    def _seen(self, row: Heartbeat) -> LastSeen:
        return LastSeen(
            at=row.seen_at,
            is_fresh=self._is_fresh(row),
            queues=tuple(row.queues),
            name=row.name,
            failure=row.failure,
        )

    def _is_fresh(self, row: Heartbeat) -> bool:
        return self.now - row.seen_at < stale_after()


@dataclass(frozen=True, kw_only=True)
class PartHealth:
    """The health of one part of the system.

    Attributes:
        part: "relay", "beat", "broker", "database", "queue", "source", "consumer" or "handlers".
        queue: name of the queue, source or consumer; "" for other parts.
        is_on: whether its latest heartbeat is recent enough. Of a queue: it has a worker, or needs
            none, since no delivery has waited for one for over a minute; the relay's own queue
            always needs one, and takes messages. Of the relay: no process fails with every pass. Of
            a source: its processes can receive. Of a consumer: it settles in time. Of handlers:
            none is failing.
        seen_at: time of its latest heartbeat, or None without one.
        text: its health in a few words.
        is_failing: it has a recent heartbeat, and does not work.
    """

    part: str
    queue: str = ""
    is_on: bool
    seen_at: datetime | None = None
    text: str
    is_failing: bool = False

    @property
    def name(self) -> str:
        """The name to display."""
        names = {
            "relay": _("relay"),
            "beat": _("beat"),
            "broker": _("broker"),
            "database": _("database"),
            "handlers": _("handlers"),
        }
        named = {"source": _("source %s"), "consumer": _("consumer %s"), "queue": _("queue %s")}
        return names.get(self.part) or named[self.part] % self.queue


def health_of_parts(
    *,
    failing: Iterable[FailureGroup] | None = None,
    has_failures: bool = True,
    using: str | None = None,
) -> list[PartHealth]:
    """Return the health of each part.

    Cost: two small queries, one if a queue has no worker, one if there are sources, and two if
    sinks have consumers.

    Args:
        failing: the groups of `failing_groups`, for the part "handlers". None: leave it out.
        has_failures: quote the error of a relay that fails, of a queue that takes nothing, and of
            a source that cannot receive.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    found = Heartbeats(using=using)
    rows = Subscription.objects.using(using).filter(active=True)
    active = list(rows.only("pk", "handler", "queue", "consumers"))
    queues = {row.queue for row in active}
    parts: list[Kind] = []
    if names.uses(names.CELERY):
        queues.add(QUEUE)
        parts += [Kind.BEAT, Kind.BROKER]
    return [
        _relay(found, has_failures=has_failures),
        *(_part(kind.value, found) for kind in parts),
        PartHealth(part="database", is_on=True, seen_at=found.now, text=_("reachable")),
        *_queues(queues, found, has_failures=has_failures, using=using),
        *_sources(found, has_failures=has_failures, using=using),
        *_consumers(active, using=using),
        *([] if failing is None else [_handlers(failing)]),
    ]


def _handlers(failing: Iterable[FailureGroup]) -> PartHealth:
    names = sorted({one.handler for one in failing})
    text = _("none is failing")
    if names:
        text = ngettext("%(n)d is failing: %(names)s", "%(n)d are failing: %(names)s", len(names))
        text %= {"n": len(names), "names": listing(names[:_MOST_NAMES])}
    return PartHealth(part="handlers", is_on=not names, text=text)


def _relay(found: Heartbeats, *, has_failures: bool) -> PartHealth:
    seen = found.failing_relay()
    if seen is None:
        return _part(Kind.RELAY.value, found)
    text = failure_text(seen, has_failures=has_failures)
    return PartHealth(part="relay", is_on=False, seen_at=seen.at, text=text, is_failing=True)


def failure_text(seen: LastSeen, *, has_failures: bool = True) -> str:
    """Return what fails in a relay that runs: "every pass of relay@host fails: KeyError: 7"."""
    text = _("every pass of %(name)s fails: %(failure)s")
    if not has_failures:
        text = _("every pass of %(name)s fails")
    return text % {"name": seen.name, "failure": seen.failure}


def _part(kind: str, found: Heartbeats) -> PartHealth:
    seen = found.latest(kind)
    # Coarse, so that the text does not change with each poll.
    text = _("seen within %s") % span(stale_after()) if seen.is_fresh else _silence(seen, found.now)
    return PartHealth(part=kind, is_on=seen.is_fresh, seen_at=seen.at, text=text)


def _queues(
    queues: Collection[str], found: Heartbeats, *, has_failures: bool, using: str
) -> Iterator[PartHealth]:
    """Yield the health of each queue, by name; also of other queues that take no message."""
    idle = idle_queues(queues, found.workers, using=using)
    refused = {one.queue: one for one in found.refused_queues()}
    for queue in sorted({*queues, *refused}):
        if queue in refused:
            yield _refused(refused[queue], found, has_failures=has_failures)
            continue
        seen, fresh = found.latest(Kind.WORKER, queue=queue), found.workers(queue)
        text = _("no worker, and none is needed")
        if fresh:
            text = ngettext("%d worker", "%d workers", fresh) % fresh
        elif queue not in idle:
            text = _silence(seen, found.now)
        is_on = bool(fresh) or queue in idle
        yield PartHealth(part="queue", queue=queue, is_on=is_on, seen_at=seen.at, text=text)


def _refused(one: RefusedQueue, found: Heartbeats, *, has_failures: bool) -> PartHealth:
    seen = found.latest(Kind.WORKER, queue=one.queue)
    text = one.in_words(found.now, has_cause=has_failures)
    return PartHealth(
        part="queue", queue=one.queue, is_on=False, seen_at=seen.at, text=text, is_failing=True
    )


def _sources(found: Heartbeats, *, has_failures: bool, using: str) -> Iterator[PartHealth]:
    names = [name for name in received_sources() if found.is_expected(name)]
    if not names:
        return
    rows = SourceState.objects.using(using).filter(source__in=names)
    states = {row.source: row for row in rows}
    for name in names:
        state = states.get(name) or SourceState(source=name)
        yield _source(state, found, has_failures=has_failures)


def _source(state: SourceState, found: Heartbeats, *, has_failures: bool) -> PartHealth:
    name, kind = state.source, Kind.RECEIVER
    seen, fresh = found.latest(kind, queue=name), found.running(kind, name)
    is_failing = bool(fresh) and state.failing_at is not None
    if not fresh:
        text = _silence(seen, found.now)
    elif is_failing:
        text = _("cannot receive")
        if has_failures:
            text = _("cannot receive: %s") % one_line(state.failure)
    elif state.paused_at is not None:
        text = _("paused: too many owed deliveries")
    else:
        text = ngettext("%d process", "%d processes", fresh) % fresh
    is_on = bool(fresh) and not is_failing
    return PartHealth(
        part="source", queue=name, is_on=is_on, seen_at=seen.at, text=text, is_failing=is_failing
    )


def _consumers(active: Sequence[Subscription], *, using: str) -> Iterator[PartHealth]:
    """Yield the health of each consumer, over all sinks."""
    by_name: dict[str, list[ConsumerStatus]] = {}
    for one in consumer_statuses(active, using=using):
        by_name.setdefault(one.consumer, []).append(one)
    for name, mine in by_name.items():
        late, missing = sum(one.late for one in mine), sum(one.missing for one in mine)
        text = _("settles in time")
        if late or missing:
            facts = {"late": late, "missing": missing}
            text = _("settlements: %(late)d late, %(missing)d missing") % facts
        is_on = all(one.is_on for one in mine)
        yield PartHealth(part="consumer", queue=name, is_on=is_on, text=text)


def _silence(seen: LastSeen, now: datetime) -> str:
    return _("silent for %s") % seen.age(now) if seen.at else _("never seen")
