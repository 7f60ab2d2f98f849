"""Events that orders emits."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from outbox import DomainEvent
from shared.money import Money


class OrderedLine(BaseModel):
    """A quantity of one product."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int


class OrderPlaced(DomainEvent, key="order_id"):
    """An order is stored and waits for stock and payment. It carries all data that both need."""

    order_id: UUID
    lines: list[OrderedLine]
    total: Money
    payment_method: str


class OrderConfirmed(DomainEvent, key="order_id"):
    """Stock is reserved and the payment is authorized."""

    order_id: UUID


class OrderReadyToShip(DomainEvent, key="order_id"):
    """The order is paid and may be packed. Handlers read other data from `orders.queries`."""

    order_id: UUID


class OrderShipped(DomainEvent, key="order_id"):
    """The parcel is handed over to the carrier."""

    order_id: UUID
    carrier: str
    tracking_number: str


class OrderReceived(DomainEvent, key="order_id"):
    """The customer has the parcel."""

    order_id: UUID


class OrderCancelled(DomainEvent, key="order_id"):
    """The order is cancelled. Its stock is released, and its payment voided or refunded."""

    order_id: UUID
    reason: str


class RefundRequested(DomainEvent, key="order_id"):
    """Staff requested a refund. The returned units, if any, go back to stock."""

    order_id: UUID
    refund_id: UUID
    amount: Money
    returned: list[OrderedLine]


class ErasurePostponed(DomainEvent, key="subject"):
    """A customer is to be forgotten, but these orders were not final. Emitted with a delay."""

    subject: str
    order_ids: list[UUID]


class CustomerForgotten(DomainEvent, key="subject"):
    """All orders of a customer are final, and their address is blanked."""

    subject: str
