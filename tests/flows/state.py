"""The state of an order after a flow: status, events, e-mails and owed deliveries."""

from __future__ import annotations

from notifications.models import Email
from orders.models import Order
from outbox.models import Delivery, Event


def status(order: Order) -> str:
    return Order.objects.get(pk=order.pk).status


def statuses(order: Order) -> list[str]:
    return list(order.history.values_list("to_status", flat=True))


def emitted(order: Order) -> list[str]:
    """The names of the order's events, in the order in which they were emitted."""
    events = Event.objects.filter(key=str(order.pk)).order_by("seq")
    return list(events.values_list("name", flat=True))


def emails(order: Order) -> set[str]:
    """The kinds of e-mails that were sent for the order."""
    sent = Email.objects.filter(order_id=order.pk, sent_at__isnull=False)
    return set(sent.values_list("kind", flat=True))


def owed() -> int:
    return Delivery.objects.filter(state__in=Delivery.OWED).count()
