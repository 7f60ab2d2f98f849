"""Subscriptions of webhooks: events of other apps, written as messages, and its own events."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outbox import Receipt, subscribe
from shared.mail import LEASE
from shared.money import Money
from webhooks import owner_email, payloads, sending, services, url_checks
from webhooks.models import EventType

# Customers' receivers may be slow and are not ours, so they have their own queue.
HTTP = "webhooks.http"
SMTP = "notifications.smtp"


@subscribe("orders.OrderPlaced")
def queue_order_placed(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.queue_messages(
        order_id=order_id, kind=EventType.PLACED, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderConfirmed")
def queue_order_confirmed(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.queue_messages(
        order_id=order_id, kind=EventType.CONFIRMED, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderReadyToShip")
def queue_order_ready_to_ship(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.queue_messages(
        order_id=order_id, kind=EventType.READY_TO_SHIP, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderShipped")
def queue_order_shipped(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.queue_messages(
        order_id=order_id, kind=EventType.SHIPPED, event_id=event_id, at=emitted_at
    )


@subscribe("orders.OrderCancelled")
def queue_order_cancelled(order_id: UUID, event_id: UUID, emitted_at: datetime) -> None:
    services.queue_messages(
        order_id=order_id, kind=EventType.CANCELLED, event_id=event_id, at=emitted_at
    )


@subscribe("payments.PaymentRefunded")
def queue_order_refunded(
    order_id: UUID,
    amount: Money,
    event_id: UUID,
    emitted_at: datetime,
    refund_id: UUID | None = None,
) -> None:
    services.queue_messages(
        order_id=order_id,
        kind=EventType.REFUNDED,
        event_id=event_id,
        at=emitted_at,
        refund=payloads.refund_data(refund_id=str(refund_id or ""), amount=amount),
    )


# No last attempt: an old message is given up by `sending.GIVE_UP_AFTER`.
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
    lease=url_checks.LEASE_SECONDS,
    # One check of a customer at a time: their name server may be slow on purpose.
    share_window=1,
)
def check_url(endpoint_id: UUID, receipt: Receipt) -> None:
    url_checks.check(endpoint_id=endpoint_id, receipt=receipt)


@subscribe("webhooks.EndpointDisabled", atomic=False, queue=SMTP, lease=LEASE)
def announce_disabling(endpoint_id: UUID, event_id: UUID, receipt: Receipt) -> None:
    owner_email.announce_disabling(endpoint_id=endpoint_id, event_id=event_id)
    with receipt:
        pass  # only the receipt is stored


@subscribe("outbox.SubjectRedacted")
def forget_owner(subject: str) -> None:
    services.forget_owner(subject=subject)
