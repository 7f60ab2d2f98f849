"""Apply a changed policy to outstanding deliveries: order keys and shares."""

from __future__ import annotations

from django.db.models import OuterRef, Subquery

from outbox import clock
from outbox.models import Delivery, Event, Subscription

State = Delivery.State


def set_order_keys(row: Subscription, *, using: str) -> None:
    """Set or clear the order key of owed deliveries, depending on `row.ordered`.

    It blocks none of them, since a worker checks the order before it starts a delivery.
    """
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    if row.ordered:
        key = Event.objects.using(using).filter(pk=OuterRef("event")).values("key")
        owed.update(order_key=Subquery(key))
    if not row.ordered or row.on_dead == Subscription.OnDead.PASS:
        unordered = owed.filter(state=State.DEAD) if row.ordered else owed
        unordered.update(order_key=None)
    blocked = owed.filter(state=State.BLOCKED)
    blocked.update(due_at=clock.now(using=using))  # the relay rechecks them
    if not row.ordered:
        blocked.update(state=State.PENDING, note="")


def set_shares(row: Subscription, *, using: str) -> None:
    """Set or clear the share of owed deliveries, depending on `row.share_window`."""
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    share = Event.objects.using(using).filter(pk=OuterRef("event")).values("share")
    owed.update(share=Subquery(share) if row.share_window else None)
