"""Queues that need a worker: an autoscaler may have stopped the workers of the others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, OuterRef, QuerySet, Subquery

from outbox import clock, databases
from outbox.deliveries.breaker import circuit_of
from outbox.models import Delivery, Subscription
from outbox.transports import names
from outbox.transports.base import QUEUE

from .conditions import OVERDUE_AFTER

State = Delivery.State


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
    rows = _first_waiting(using=using)
    return {row.queue for row in rows if now - _waits_since(row, now) > OVERDUE_AFTER}


def _first_waiting(*, using: str) -> QuerySet[Any]:
    """Return the active subscriptions with the delivery of each state that has waited longest.

    A message that no worker starts is sent again after each lease. So the deliveries in flight that
    were sent most often have waited longest.
    """
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk"))
    pending = mine.filter(state=State.PENDING).order_by("due_at")
    sent = mine.filter(state=State.SENT).annotate(unstarted=F("token") - F("started_token"))
    longest = sent.order_by(F("unstarted").desc(), "due_at")
    return (
        Subscription.objects.using(using)
        .filter(active=True)
        .annotate(
            pending_due_at=Subquery(pending.values("due_at")[:1]),
            sent_due_at=Subquery(longest.values("due_at")[:1]),
            sent_unstarted=Subquery(longest.values("unstarted")[:1]),
        )
    )


def _waits_since(row: Any, now: datetime) -> datetime:
    """Return since when a delivery of a subscription has waited for a worker; `now` if none does.

    A delivery that is running waits from the end of its lease on.
    """
    found = [now]
    if row.sent_due_at is not None:
        leases = timedelta(seconds=row.lease_seconds) * row.sent_unstarted
        found.append(row.sent_due_at - leases)
    circuit = circuit_of(row)
    if row.pending_due_at is not None and not row.is_held:
        if not circuit.is_open:
            found.append(row.pending_due_at)
        elif circuit.may_probe(now):
            found.append(max(row.pending_due_at, row.breaker_probe_at or now))
    return min(found)
