"""Subscriptions of webhooks: events of other apps, written as messages, and its own events."""

from __future__ import annotations

from uuid import UUID

from outbox import EventRecord, Receipt, subscribe
from shared.mail import LEASE
from shared.money import Money
from webhooks import owner_email, payloads, sending, services, url_checks
from webhooks.models import EventType

# Customers' receivers may be slow and are not ours, so they have their own queue.
HTTP = "webhooks.http"
SMTP = "notifications.smtp"

#: The event type of the messages about each event of an order.
EVENT_TYPES = {
    "orders.OrderPlaced": EventType.PLACED,
    "orders.OrderConfirmed": EventType.CONFIRMED,
    "orders.OrderReadyToShip": EventType.READY_TO_SHIP,
    "orders.OrderShipped": EventType.SHIPPED,
    "orders.OrderCancelled": EventType.CANCELLED,
}


@subscribe(*EVENT_TYPES)
def write_messages(order_id: UUID, event: EventRecord) -> None:
    services.write_messages(order_id=order_id, kind=EVENT_TYPES[event.name], event=event)


@subscribe("payments.PaymentRefunded")
def write_refund_messages(
    order_id: UUID, amount: Money, event: EventRecord, refund_id: UUID | None = None
) -> None:
    refund = payloads.refund_data(refund_id=str(refund_id or ""), amount=amount)
    services.write_messages(order_id=order_id, kind=EventType.REFUNDED, event=event, refund=refund)


def messages_of(message_ids: list[UUID]) -> list[str]:
    """Return the targets of `send_message`: each message has a delivery of its own."""
    return [str(message_id) for message_id in message_ids]


# No last attempt: an old message is given up by `sending.GIVE_UP_AFTER`.
@subscribe(
    "webhooks.MessagesWritten",
    targets=messages_of,
    atomic=False,
    queue=HTTP,
    lease=sending.lease_seconds(),
    attempts=None,
    backoff_base=5,
    # The slow receivers of one customer occupy at most this many workers.
    share_window=sending.MOST_OF_ONE_OWNER,
)
def send_message(target: str, receipt: Receipt) -> None:
    sending.send(message_id=UUID(target), receipt=receipt)


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
