"""Subscriptions of webhooks: events of other apps, written as messages, and its own events."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outbox import Receipt, subscribe
from shared.mail import LEASE
from shared.money import Money
from webhooks import checking, notices, payloads, sending, services
from webhooks.models import EventType

# Customers' receivers may be slow and are not ours, so they have their own queue.
HTTP = "webhooks.http"
SMTP = "notifications.smtp"


@subscribe("orders.OrderPlaced")
def tell_of_placing(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.tell_owner(order_id=order_id, kind=EventType.PLACED, event_id=event_id, at=emitted_at)


@subscribe("orders.OrderConfirmed")
def tell_of_confirmation(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.tell_owner(
        order_id=order_id, kind=EventType.CONFIRMED, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderReadyToShip")
def tell_of_readiness(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.tell_owner(
        order_id=order_id, kind=EventType.READY_TO_SHIP, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderShipped")
def tell_of_shipping(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.tell_owner(order_id=order_id, kind=EventType.SHIPPED, event_id=event_id, at=emitted_at)


@subscribe("orders.OrderCancelled")
def tell_of_cancellation(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.tell_owner(
        order_id=order_id, kind=EventType.CANCELLED, event_id=event_id, at=emitted_at
    )


@subscribe("payments.PaymentRefunded")
def tell_of_refund(
    order_id: UUID,
    amount: Money,
    event_id: UUID,
    emitted_at: datetime,
    refund_id: UUID | None = None,
) -> None:
    services.tell_owner(
        order_id=order_id,
        kind=EventType.REFUNDED,
        event_id=event_id,
        at=emitted_at,
        refund=payloads.refund_data(refund_id=str(refund_id or ""), amount=amount),
    )


# No last attempt: an old message is given up by `sending.PATIENCE`.
@subscribe(
    "webhooks.MessageWritten",
    atomic=False,
    queue=HTTP,
    lease=sending.lease_seconds(),
    attempts=None,
    backoff_base=5,
    # The slow receivers of one customer occupy at most this many workers.
    share_window=sending.MOST_OF_ONE_OWNER,
)
def send_message(message_id: UUID, receipt: Receipt) -> None:
    sending.send(message_id=message_id, receipt=receipt)


@subscribe(
    "webhooks.EndpointUrlChanged",
    atomic=False,
    queue=HTTP,
    lease=checking.LEASE_SECONDS,
    # One check of a customer at a time: their name server may be slow on purpose.
    share_window=1,
)
def check_url(endpoint_id: UUID, receipt: Receipt) -> None:
    checking.check(endpoint_id=endpoint_id, receipt=receipt)


@subscribe("webhooks.EndpointDisabled", atomic=False, queue=SMTP, lease=LEASE)
def announce_disabling(endpoint_id: UUID, event_id: UUID, receipt: Receipt) -> None:
    notices.announce_disabling(endpoint_id=endpoint_id, event_id=event_id)
    with receipt:
        pass  # only the receipt is stored


@subscribe("outbox.SubjectRedacted")
def forget_owner(subject: str) -> None:
    services.forget_owner(subject=subject)
