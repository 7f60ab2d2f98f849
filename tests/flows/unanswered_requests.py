"""Requests to the bank whose answers are not stored: a worker died or is slow."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from orders.models import Order
from payments import bank_requests, gateway, services
from payments.models import Payment
from shared.money import Money


def ask_to_authorize(order: Order) -> None:
    """The worker died, or is slow, between the bank's answer and its note."""
    bank_requests.authorization(
        services.intend_payment(order_id=order.id, total=order.total, payment_method="tok_success")
    )


def ask_to_capture(order: Order) -> None:
    bank_requests.capture(services.intend_capture(order_id=order.id))


def intend_to_authorize_days_ago(order: Order) -> None:
    """The bank could not be reached since."""
    services.intend_payment(order_id=order.id, total=order.total, payment_method="tok_success")
    _grow_old(order)


def intend_to_capture_days_ago(order: Order) -> None:
    services.intend_capture(order_id=order.id)
    _grow_old(order)


def capture_days_ago(order: Order, *, amount: Money) -> None:
    """The bank captured this amount, whatever was requested."""
    intend_to_capture_days_ago(order)
    gateway.current().capture(
        authorization_id=Payment.objects.get(order_id=order.id).authorization_id,
        amount=amount,
        idempotency_key=f"{order.id}-elsewhere",
    )


def _grow_old(order: Order) -> None:
    days_ago = timezone.now() - timedelta(days=3)
    Payment.objects.filter(order_id=order.id).update(moved_at=days_ago)


def payment_statuses(order_id: UUID) -> list[str]:
    payment = Payment.objects.get(order_id=order_id)
    return [move.to_status for move in payment.history.all()]
