"""Work that no running worker does: queues without one, and deliveries of a later release.

An autoscaler may have stopped the workers of queues that need none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    Case,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.deliveries.breaker import circuit_of
from outbox.deliveries.settlement import OLDER_RELEASE, REMOVED
from outbox.formatting import end_command, span
from outbox.models import Delivery, Event, Subscription
from outbox.transports import names
from outbox.transports.base import QUEUE

from .conditions import OVERDUE_AFTER

State = Delivery.State

#: A delivery that was handed back is due again within so long, or was due for so long at most.
_HANDED_BACK_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The delivery of a handler that has waited longest for a worker.

    Attributes:
        delivery: its id.
        since: since when it has waited.
    """

    delivery: int
    since: datetime


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """A delivery that running workers hand back, since another release has to run it.

    Attributes:
        delivery: its id.
        handler: pinned name.
        queue: the queue of the workers.
        since: since when it has waited: its event's emission, or the start of its subscription.
        note: the worker that handed it back last, and why.
        removed_event: its event, if its subscription does not select it any more; "": only a later
            release can run it.
    """

    delivery: int
    handler: str
    queue: str
    since: datetime
    note: str
    removed_event: str = ""

    def in_words(self, waited: timedelta) -> str:
        """Return what waits, for how long, and the next step."""
        text = _(
            "%(handler)s waits for a worker of a later release, the oldest delivery for %(age)s: "
            "%(note)s Replace the workers of the queue %(queue)s by the release that was migrated "
            "last."
        )
        if self.removed_event:
            text = _(
                "%(handler)s no longer subscribes to %(event)s, but owes deliveries of it, the "
                "oldest for %(age)s. Deploy and migrate a release that does, or end it: %(end)s."
            )
        return text % {
            "handler": self.handler,
            "age": span(waited),
            "note": self.note,
            "queue": self.queue,
            "event": self.removed_event,
            "end": end_command(self.handler, self.removed_event),
        }


def idle_queues(queues: Collection[str], workers: Callable[[str], int], *, using: str) -> set[str]:
    """Return the queues that have no worker and need none.

    An autoscaler stops the last worker of a queue without work. So a queue needs a worker only if a
    delivery has waited for one for over `OVERDUE_AFTER`. With Celery, the relay's queue always
    needs one.

    Args:
        queues: names of queues.
        workers: returns the number of live workers of a queue.
        using: the outbox's database alias.
    """
    without = {queue for queue in queues if not workers(queue)}
    if not without:
        return set()
    always = {QUEUE} if names.uses(names.CELERY) else set()
    return without - always - overdue_queues(using=using)


def overdue_queues(*, using: str | None = None) -> set[str]:
    """Return the queues with a delivery that has waited for a worker for over `OVERDUE_AFTER`.

    Cost: one query, which reads a delivery of each subscription and state.

    Args:
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    now = clock.now(using=using)
    rows = first_waiting(using=using)
    return {row.queue for row in rows if now - waits_since(row, now) > OVERDUE_AFTER}


def longest_waiting(*, using: str | None = None) -> dict[str, Waiting]:
    """Return the delivery that has waited longest for a worker, by active handlers that have one.

    Cost: one query, which reads a delivery of each subscription and state.

    Args:
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    now = clock.now(using=using)
    found: dict[str, Waiting] = {}
    for row in first_waiting(using=using):
        first = _first(row, now)
        if first is not None and first.since < now:
            found[row.handler] = min(first, found.get(row.handler, first), key=_since)
    return found


def waiting_since(*, using: str | None = None) -> dict[str, datetime]:
    """Return the times of `longest_waiting`: since when a delivery has waited, by handler."""
    return {handler: one.since for handler, one in longest_waiting(using=using).items()}


def first_waiting(*, using: str) -> QuerySet[Any]:
    """Return the active subscriptions with the delivery of each state that has waited longest.

    A message that no worker starts is sent again after each lease. So the deliveries in flight that
    were sent most often have waited longest.
    """
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk"))
    pending = mine.filter(state=State.PENDING).order_by("due_at")
    # A replay sets the started token to 0. Of the messages since, at least one was not started.
    replayed = When(started_token=0, started_at__isnull=False, then=Value(1))
    unstarted = F("token") - F("started_token")
    messages = Case(replayed, default=unstarted, output_field=IntegerField())
    sent = mine.filter(state=State.SENT).annotate(unstarted=messages)
    longest = sent.order_by(F("unstarted").desc(), "due_at")
    its_event = Event.objects.using(using).filter(pk=OuterRef("sent_event"))
    return (
        Subscription.objects.using(using)
        .filter(active=True)
        .annotate(
            pending_pk=Subquery(pending.values("pk")[:1]),
            pending_due_at=Subquery(pending.values("due_at")[:1]),
            is_handed_back=Exists(_handed_back(clock.now(using=using), using=using)),
            sent_pk=Subquery(longest.values("pk")[:1]),
            sent_due_at=Subquery(longest.values("due_at")[:1]),
            sent_unstarted=Subquery(longest.values("unstarted")[:1]),
            sent_event=Subquery(longest.values("event_id")[:1]),
            sent_started_at=Subquery(longest.values("started_at")[:1]),
        )
        .annotate(sent_fanned_out_at=Subquery(its_event.values("fanned_out_at")))
    )


def waits_since(row: Any, now: datetime) -> datetime:
    """Return since when a delivery of a subscription has waited for a worker; `now` if none does.

    A delivery that is running waits from the end of its lease on. Those that wait for a time, a
    person, a probe, an earlier event of their key or a later release do not wait for a worker. A
    delivery that is due counts although the window of its handler, or its share, is full.

    Each message that was not started counts as a lease, also one that was handed back at once. So
    the time is at most that since the fan-out of the event and since the last start. While workers
    hand deliveries back, those in flight do not count: such a worker takes messages.

    Args:
        row: a subscription of `first_waiting`.
        now: the time of the read.
    """
    first = _first(row, now)
    return now if first is None else min(first.since, now)


def _first(row: Any, now: datetime) -> Waiting | None:
    """Return the delivery of a subscription that has waited longest; None: none waits."""
    found: list[Waiting] = []
    if row.sent_due_at is not None and not row.is_handed_back:
        leases = timedelta(seconds=row.lease_seconds) * row.sent_unstarted
        limits = [at for at in (row.sent_fanned_out_at, row.sent_started_at) if at is not None]
        limit = min(row.sent_due_at, max(limits, default=row.sent_due_at))
        since = max(row.sent_due_at - leases, limit)
        found.append(Waiting(delivery=row.sent_pk, since=since))
    circuit = circuit_of(row)
    if row.pending_due_at is not None and not row.is_held:
        since = row.pending_due_at
        if circuit.is_open:
            since = max(since, row.breaker_probe_at or now)
        if not circuit.is_open or circuit.may_probe(now):
            found.append(Waiting(delivery=row.pending_pk, since=since))
    return min(found, key=_since, default=None)


def _since(one: Waiting) -> datetime:
    return one.since


def handed_back(*, using: str | None = None) -> list[HandedBack]:
    """Return the oldest delivery of each active handler that running workers hand back.

    They are due again every five seconds, so none of them is due for long. Cost: one query, which
    reads the deliveries of each subscription that are due within seconds.

    Args:
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    now = clock.now(using=using)
    first = _handed_back(now, using=using).order_by("id")
    rows = (
        Subscription.objects.using(using)
        .filter(active=True, known=True)
        .annotate(
            first=Subquery(first.values("pk")[:1]),
            emitted_at=Subquery(first.values("event__emitted_at")[:1]),
            first_event=Subquery(first.values("event__name")[:1]),
            first_note=Subquery(first.values("note")[:1]),
        )
    )
    found: dict[str, HandedBack] = {}
    for row in rows.exclude(first=None).order_by("handler", "-first"):
        found[row.handler] = HandedBack(
            delivery=row.first,
            handler=row.handler,
            queue=row.queue,
            since=max(row.emitted_at, row.since),
            note=row.first_note,
            removed_event="" if row.selects(row.first_event) else row.first_event,
        )
    return list(found.values())


def _handed_back(now: datetime, *, using: str) -> QuerySet[Delivery]:
    """Return the deliveries of a subscription, the outer query's row, that were handed back."""
    return Delivery.objects.using(using).filter(
        Q(note__endswith=OLDER_RELEASE) | Q(note__startswith=REMOVED),
        subscription=OuterRef("pk"),
        state=State.PENDING,
        due_at__gt=now - _HANDED_BACK_WITHIN,
        due_at__lte=now + _HANDED_BACK_WITHIN,
    )
