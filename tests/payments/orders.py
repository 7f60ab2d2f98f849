"""What orders would say, and what the tests look at afterwards."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from outbox import operations
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from payments.models import Payment
from shared.money import Money

TOTAL = Money(amount=12800, currency="JPY")


def place(
    outbox: Outbox, order_id: UUID, *, payment_method: str = "tok_success", total: Money = TOTAL
) -> Event:
    return outbox.given(
        "orders.OrderPlaced",
        order_id=order_id,
        lines=[{"sku": "TEA", "quantity": 1}],
        total=total,
        payment_method=payment_method,
    )


def confirm(outbox: Outbox, order_id: UUID) -> Event:
    return outbox.given("orders.OrderConfirmed", order_id=order_id)


def cancel(outbox: Outbox, order_id: UUID) -> Event:
    return outbox.given("orders.OrderCancelled", order_id=order_id, reason="out_of_stock")


def deliver(outbox: Outbox, handler: str = "", **options: Any) -> None:
    """Deliver all events to the handlers of payments, or those owed to one of them."""
    outbox.deliver_all(only=f"payments.{handler}" if handler else "payments", **options)


def authorized(outbox: Outbox, order_id: UUID) -> None:
    place(outbox, order_id)
    deliver(outbox)


def captured(outbox: Outbox, order_id: UUID) -> None:
    authorized(outbox, order_id)
    confirm(outbox, order_id)
    deliver(outbox)


def retry() -> None:
    """Try what has failed again, as a person would: the backoff is over, dead is alive."""
    operations.retry(operations.Choice(), by="test", rate=None)


def settle_as_dead(handler: str) -> None:
    """As if the handler's one delivery had used up its attempts."""
    _deliveries(handler).update(state=Delivery.State.DEAD)


def set_attempts(handler: str, attempts: int) -> None:
    """As if the handler's one delivery had failed so often."""
    _deliveries(handler).update(attempts=attempts)


def owed(handler: str) -> str:
    """The state of the one delivery of a handler."""
    return _deliveries(handler).get().state


def _deliveries(handler: str) -> QuerySet[Delivery]:
    return Delivery.objects.filter(subscription__handler=f"payments.{handler}")


def status(order_id: UUID) -> str:
    return Payment.objects.get(order_id=order_id).status


def moves(order_id: UUID) -> list[str]:
    payment = Payment.objects.get(order_id=order_id)
    return [move.to_status for move in payment.history.all()]


def said(outbox: Outbox) -> list[str]:
    """The events that payments emitted, in order."""
    return [type(event).__name__ for event in outbox.all_emitted()]


def said_of(outbox: Outbox, order_id: UUID) -> list[str]:
    """Those that are about one order."""
    events = [event for event in outbox.all_emitted() if event.order_id == order_id]
    return [type(event).__name__ for event in events]
