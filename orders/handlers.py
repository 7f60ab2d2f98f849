"""Subscriptions of orders. Read from top to bottom, they are the order process."""

from __future__ import annotations

from uuid import UUID

from orders import services
from outbox import declare_subject, subscribe

declare_subject(
    "user",
    values=services.personal_values,
    keys=services.order_keys,
    of_key=services.customer_of_key,
)


@subscribe("inventory.StockReserved")
def record_stock_reserved(order_id: UUID) -> None:
    services.record_stock_reserved(order_id=order_id)


@subscribe("inventory.StockUnavailable")
def cancel_for_lack_of_stock(order_id: UUID) -> None:
    services.cancel_for_lack_of_stock(order_id=order_id)


@subscribe("payments.PaymentAuthorized")
def record_payment_authorized(order_id: UUID) -> None:
    services.record_payment_authorized(order_id=order_id)


@subscribe("payments.PaymentDeclined")
def cancel_for_declined_payment(order_id: UUID) -> None:
    services.cancel_for_declined_payment(order_id=order_id)


@subscribe("payments.PaymentCaptured")
def release_for_shipping(order_id: UUID) -> None:
    services.release_for_shipping(order_id=order_id)


@subscribe("outbox.SubjectRedacted", "orders.ErasurePostponed")
def forget_customer(subject: str) -> None:
    services.forget_customer(subject=subject)


# Again at the end: while orders are not final, more answers are stored.
@subscribe("outbox.SubjectRedacted", "orders.CustomerForgotten")
def erase_answers(subject: str) -> None:
    services.erase_answers(subject=subject)
