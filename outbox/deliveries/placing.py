"""Adapt what is owed to the policy of its subscription: places in line, and shares."""

from __future__ import annotations

from django.db.models import OuterRef, Subquery

from outbox import clock
from outbox.models import Delivery, Event, Subscription

State = Delivery.State


def line_up(row: Subscription, *, using: str) -> None:
    """Store the place in line of what is owed, or delete it, depending on `row.ordered`.

    Nothing is blocked here: a worker checks the order before it starts a delivery.
    """
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    if row.ordered:
        key = Event.objects.using(using).filter(pk=OuterRef("event")).values("key")
        owed.update(order_key=Subquery(key))
    if not row.ordered or row.on_dead == Subscription.OnDead.PASS:
        gone = owed.filter(state=State.DEAD) if row.ordered else owed
        gone.update(order_key=None)
    blocked = owed.filter(state=State.BLOCKED)
    blocked.update(due_at=clock.now(using=using))  # the relay looks again
    if not row.ordered:
        blocked.update(state=State.PENDING, note="")


def fill_shares(row: Subscription, *, using: str) -> None:
    """Store the shares of what is owed, or delete them, depending on `row.share_window`."""
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    share = Event.objects.using(using).filter(pk=OuterRef("event")).values("share")
    owed.update(share=Subquery(share) if row.share_window else None)
