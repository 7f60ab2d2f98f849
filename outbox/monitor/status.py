"""Outstanding deliveries by handler: for `manage.py outbox status`, dashboards and alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db.models import Count, Min, Q

from outbox import clock, databases
from outbox.counting import minutes
from outbox.deliveries.pauses import with_backfills
from outbox.models import Delivery, Event, Operation, Subscription

from .bounded import number_of
from .consumers import ConsumerStatus, consumer_statuses
from .failing import FailingView, count_failing, failing_view_of
from .failures import FailureGroup
from .people import names_of
from .stops import BACKFILL, Stop, hidden_text, most_urgent, public_pause_reason, stop_of

State = Delivery.State


@dataclass(kw_only=True)
class HandlerStatus:
    """The outstanding deliveries and the condition of one handler.

    Attributes:
        handler: pinned name.
        queue: queue of its messages in the code that was last migrated; if that lacks it, the queue
            of its last release.
        pending: number of deliveries that wait in the database, including those in backoff.
        retrying: number of pending deliveries with an earlier attempt.
        failing: number of deliveries whose latest attempt failed and that are tried again.
        sent: number with the broker or a worker.
        dead: number that wait for a person.
        parked: number that wait until the handler is resumed or deployed.
        blocked: number that wait for an earlier event of their key.
        oldest_in: by state, the emission time of the oldest event owed in that state.
        is_known: whether the code that was last migrated has it, for all of its events that have
            not ended.
        done_in_a_minute: deliveries done in the last minute, as counted by workers. They store
            their counts every ten seconds.
        paused_at: start of its pause, or None.
        paused_by: name of the person or rule that paused it.
        pause_reason: reason of the pause.
        backfill: id of the unfinished backfill that holds it, or None. Do not resume it then.
        backfill_seen_at: last heartbeat of that backfill.
        breaker_opened_at: when its breaker opened, or None; the earliest over its events.
        breaker_probe_at: time of the next probe, or None.
        breaker_reason: failure of the external system.
        stops: for each of its subscriptions, why no delivery of it is started, or None.
    """

    handler: str
    queue: str
    pending: int = 0
    retrying: int = 0
    failing: int = 0
    sent: int = 0
    dead: int = 0
    parked: int = 0
    blocked: int = 0
    oldest_in: dict[str, datetime] = field(default_factory=dict)
    done_in_a_minute: int = 0
    is_known: bool = True
    paused_at: datetime | None = None
    paused_by: str = ""
    pause_reason: str = ""
    backfill: int | None = None
    backfill_seen_at: datetime | None = None
    breaker_opened_at: datetime | None = None
    breaker_probe_at: datetime | None = None
    breaker_reason: str = ""
    stops: list[Stop | None] = field(default_factory=list)

    STATES: ClassVar = tuple(state.value for state in Delivery.OWED)

    @property
    def stop(self) -> Stop | None:
        """Why the handler runs no deliveries; None: it runs."""
        return most_urgent(self.stops)

    @property
    def held_text(self) -> str:
        """Advice about the backfill that holds it; "" without one."""
        return self.stop.text if self.stop is not None and self.stop.kind == BACKFILL else ""

    @property
    def oldest(self) -> datetime | None:
        """Emission time of the oldest owed event, including dead and parked deliveries."""
        return min(self.oldest_in.values(), default=None)


@dataclass(frozen=True, kw_only=True)
class Status:
    """The outstanding work at one time.

    Attributes:
        at: that time.
        handlers: one for each handler, by name.
        waiting_events: number of events that wait for fan-out.
        oldest_waiting: emission time of the oldest of these.
        consumers: the settlements that consumers of sinks owe.
        failing: the groups of failing deliveries, the largest first.
        unexamined: handlers of which only a sample of failing deliveries was examined. They may
            have further groups.
        most: the largest number that was counted for a subscription and state; None: all.
    """

    at: datetime
    handlers: list[HandlerStatus] = field(default_factory=list)
    waiting_events: int = 0
    oldest_waiting: datetime | None = None
    consumers: list[ConsumerStatus] = field(default_factory=list)
    failing: list[FailureGroup] = field(default_factory=list)
    unexamined: tuple[str, ...] = ()
    most: int | None = None

    def failing_of(self, handler: str) -> list[FailureGroup]:
        """Return the failing groups of a handler, the largest first."""
        return [one for one in self.failing if one.handler == handler]

    def age(self, when: datetime | None) -> timedelta | None:
        """Return the time from `when` to `at`, at least 0; None for None."""
        return max(timedelta(0), self.at - when) if when else None


def status(
    *, using: str | None = None, has_failures: bool = True, most: int | None = None
) -> Status:
    """Count the outstanding deliveries.

    Cost: eleven queries, whatever the number of handlers, two more if a sink has consumers, one if
    a user has paused a handler, and up to seven if a delivery is failing. They read no settled
    delivery, so the cost does not grow with history. With `most` it does not grow with the backlog
    either.

    Args:
        using: the outbox's database alias.
        has_failures: quote the texts of failures in the reasons of pauses and breakers, and name
            the exceptions of failing groups.
        most: count at most so many deliveries of each subscription and state, and so many waiting
            events, and leave out `oldest_in` and the handlers' numbers of failing deliveries. For
            repeated checks. None: count all.
    """
    using = using or databases.alias()
    # The first row of a handler gives its queue: `migrate` updates only those that its code has.
    stored = Subscription.objects.using(using).order_by("handler", "-known", "event")
    subscriptions = list(with_backfills(stored))
    names = names_of(row.paused_by for row in subscriptions)
    handlers: dict[str, HandlerStatus] = {}
    for row in subscriptions:
        one = handlers.setdefault(row.handler, HandlerStatus(handler=row.handler, queue=row.queue))
        _add_condition(one, row, has_failures=has_failures, names=names)
    by_subscription = {row.pk: handlers[row.handler] for row in subscriptions}
    if most is None:
        _count_owed(by_subscription, using=using)
    else:
        _count_some(by_subscription, most=most, using=using)
    for handler, number in minutes.done_in_a_minute(handlers.keys(), using=using).items():
        handlers[handler].done_in_a_minute = number
    view = _failing(subscriptions, handlers, is_counted=most is None, using=using)
    failing = view.groups if has_failures else [one.hidden() for one in view.groups]
    waiting, oldest = _waiting_events(most, using=using)
    return Status(
        at=clock.now(using=using),
        handlers=list(handlers.values()),
        waiting_events=waiting,
        oldest_waiting=oldest,
        consumers=consumer_statuses([row for row in subscriptions if row.active], using=using),
        failing=failing,
        unexamined=view.unexamined,
        most=most,
    )


def _waiting_events(most: int | None, *, using: str) -> tuple[int, datetime | None]:
    """Return the number of events that wait for fan-out, and when the oldest was emitted."""
    waiting = Event.objects.using(using).filter(fanned_out_at=None)
    if most is None:
        found = waiting.aggregate(number=Count("*"), oldest=Min("emitted_at"))
    else:  # by their index, which is in the order of emission
        first = waiting.order_by("seq")[:most]
        found = first.aggregate(number=Count("*"), oldest=Min("emitted_at"))
    return found["number"], found["oldest"]


def _failing(
    rows: Sequence[Subscription],
    handlers: Mapping[str, HandlerStatus],
    *,
    is_counted: bool,
    using: str,
) -> FailingView:
    """Return the view of failing deliveries, and store their numbers with the handlers."""
    names = {row.pk: row.handler for row in rows if row.active}
    found = failing_view_of(names, using=using)
    if is_counted:
        for handler, number in count_failing(found, using=using).items():
            handlers[handler].failing = number
    return found


def _add_condition(
    one: HandlerStatus, row: Any, *, has_failures: bool, names: Mapping[str, str]
) -> None:
    """Store whether a subscription of the handler is unknown, paused or held by its breaker."""
    backfill = None
    if row.backfill is not None:
        backfill = Operation(pk=row.backfill, seen_at=row.backfill_seen_at)
    one.stops.append(stop_of(row, backfill, has_failures=has_failures, names=names))
    one.is_known = one.is_known and (row.known or not row.active)
    if not row.active:
        return
    if row.paused_at:
        one.paused_at, one.paused_by = row.paused_at, names.get(row.paused_by, row.paused_by)
        one.pause_reason = row.pause_reason if has_failures else public_pause_reason(row)
    if row.backfill is not None:
        one.backfill, one.backfill_seen_at = row.backfill, row.backfill_seen_at
    opened, before = row.breaker_opened_at, one.breaker_opened_at
    if opened and (before is None or opened < before):
        one.breaker_opened_at, one.breaker_probe_at = opened, row.breaker_probe_at
        one.breaker_reason = row.breaker_reason if has_failures else hidden_text()


def _count_owed(by_subscription: dict[int, HandlerStatus], *, using: str) -> None:
    oldest: dict[tuple[int, str], int] = {}
    for state in Delivery.OWED:  # one query each: each state has its own index
        owed = Delivery.objects.using(using).filter(state=state).values("subscription")
        rows = owed.annotate(
            number=Count("*"), again=Count("pk", filter=Q(attempts__gt=0)), first=Min("event")
        )
        for row in rows.order_by():
            one = by_subscription.get(row["subscription"])
            if one is None:  # subscribed since the first read
                continue
            setattr(one, state, getattr(one, state) + row["number"])
            one.retrying += row["again"] if state == State.PENDING else 0
            oldest[row["subscription"], state.value] = row["first"]
    _set_oldest(oldest, by_subscription, using=using)


def _count_some(by_subscription: Mapping[int, HandlerStatus], *, most: int, using: str) -> None:
    """Count up to `most` deliveries of each subscription and state, by the states' indexes."""
    rows = Delivery.objects.using(using)
    numbers = {
        state.value: number_of(rows.filter(state=state), most=most) for state in Delivery.OWED
    }
    counted = Subscription.objects.using(using).annotate(
        **{f"in_{state}": number for state, number in numbers.items()}
    )
    for row in counted.values("pk", *(f"in_{state}" for state in numbers)):
        if one := by_subscription.get(row["pk"]):
            for state in numbers:
                setattr(one, state, getattr(one, state) + row[f"in_{state}"])


def _set_oldest(
    oldest: dict[tuple[int, str], int], by_subscription: dict[int, HandlerStatus], *, using: str
) -> None:
    """Set `oldest_in` from the first owed seq of each subscription and state."""
    events = Event.objects.using(using).filter(pk__in=set(oldest.values()))
    emitted = dict(events.values_list("pk", "emitted_at"))
    for (subscription, state), seq in oldest.items():
        known = by_subscription[subscription].oldest_in
        if seq in emitted:
            known[state] = min(known.get(state, emitted[seq]), emitted[seq])
