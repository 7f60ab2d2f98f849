"""Subscriptions of notifications. Mail servers may be slow, so e-mails have their own queue."""

from __future__ import annotations

from smtplib import SMTPConnectError, SMTPHeloError, SMTPServerDisconnected
from uuid import UUID

from notifications import services
from notifications.models import Email
from orders import queries as orders
from outbox import Breaker, Receipt, Retry, subscribe
from shared.mail import LEASE
from shared.money import Money

Kind = Email.Kind
SMTP = "notifications.smtp"
# Not SMTPException, nor its base OSError: a refused recipient does not mean an unreachable server.
AWAY = (ConnectionError, TimeoutError, SMTPConnectError, SMTPHeloError, SMTPServerDisconnected)
BREAKER = Breaker(on=AWAY, failures=10, wait=15, longest=600)


@subscribe("orders.OrderPlaced", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def acknowledge_order(order_id: UUID, receipt: Receipt) -> None:
    services.notify(order_id=order_id, kind=Kind.ACKNOWLEDGEMENT, receipt=receipt)


@subscribe("payments.PaymentCaptured", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def announce_payment(order_id: UUID, amount: Money, receipt: Receipt) -> None:
    services.notify(order_id=order_id, kind=Kind.PAYMENT, amount=amount, receipt=receipt)


@subscribe("orders.OrderReadyToShip", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def announce_ready_to_ship(order_id: UUID, receipt: Receipt) -> None:
    services.notify(order_id=order_id, kind=Kind.READY_TO_SHIP, receipt=receipt)


@subscribe("orders.OrderShipped", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def announce_shipping(order_id: UUID, carrier: str, tracking_number: str, receipt: Receipt) -> None:
    services.notify(
        order_id=order_id,
        kind=Kind.SHIPPING,
        carrier=carrier,
        tracking_number=tracking_number,
        receipt=receipt,
    )


@subscribe("orders.OrderCancelled", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def announce_cancellation(order_id: UUID, reason: str, receipt: Receipt) -> None:
    services.notify(
        order_id=order_id,
        kind=Kind.CANCELLATION,
        reason=reason,
        is_by_customer=orders.is_cancelled_by_customer(order_id),
        receipt=receipt,
    )


@subscribe("payments.PaymentRefunded", atomic=False, queue=SMTP, lease=LEASE, breaker=BREAKER)
def announce_refund(
    order_id: UUID, amount: Money, receipt: Receipt, refund_id: UUID | None = None
) -> None:
    services.notify(
        order_id=order_id,
        kind=Kind.REFUND,
        about=str(refund_id or ""),
        amount=amount,
        receipt=receipt,
    )


@subscribe("notifications.ResendRequested", atomic=False, queue=SMTP, lease=LEASE)
def resend_email(resend_id: UUID, receipt: Receipt) -> None:
    services.resend(resend_id=resend_id, receipt=receipt)


# Not `outbox.SubjectRedacted`: until all orders are final, more e-mails are written.
@subscribe(
    "orders.CustomerForgotten",
    queue=SMTP,
    rules={services.EmailNotSentYet: Retry(after=services.ERASURE_RETRY_SECONDS)},
)
def forget_recipient(subject: str, attempt: int) -> None:
    services.forget_recipient(subject=subject, waits=attempt < services.LAST_ERASURE_ATTEMPT)
