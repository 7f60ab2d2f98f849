"""Requests to the bank whose answers are not stored: a worker died or is slow."""

from __future__ import annotations

from uuid import UUID

from orders.models import Order
from payments import bank_requests, services
from payments.models import Payment


def ask_to_authorize(order: Order) -> None:
    """The worker died, or is slow, between the bank's answer and its note."""
    bank_requests.authorization(
        services.intend_payment(order_id=order.id, total=order.total, payment_method="tok_success")
    )


def ask_to_capture(order: Order) -> None:
    bank_requests.capture(services.intend_capture(order_id=order.id))


def payment_statuses(order_id: UUID) -> list[str]:
    payment = Payment.objects.get(order_id=order_id)
    return [move.to_status for move in payment.history.all()]
