"""What orders says."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from money import Money
from outbox import DomainEvent


class OrderedLine(BaseModel):
    """So many units of one product."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int


class OrderPlaced(DomainEvent, key="order_id"):
    """An order is stored and waits for stock and payment. It carries all that both need."""

    order_id: UUID
    lines: list[OrderedLine]
    total: Money
    payment_method: str


class OrderConfirmed(DomainEvent, key="order_id"):
    """Stock and payment are both in hand."""

    order_id: UUID


class OrderReadyToShip(DomainEvent, key="order_id"):
    """The order is paid and may be packed. Thin on purpose: who needs more asks orders.queries."""

    order_id: UUID


class OrderShipped(DomainEvent, key="order_id"):
    """The parcel is with the carrier."""

    order_id: UUID
    carrier: str
    tracking_number: str


class OrderReceived(DomainEvent, key="order_id"):
    """The customer has the parcel."""

    order_id: UUID


class OrderCancelled(DomainEvent, key="order_id"):
    """Nothing more will happen to the order; what it holds is given back."""

    order_id: UUID
    reason: str


class RefundRequested(DomainEvent, key="order_id"):
    """So much money goes back to the customer, and these goods, if any, go back on the shelf."""

    order_id: UUID
    refund_id: UUID
    amount: Money
    returned: list[OrderedLine]


class ForgettingPostponed(DomainEvent, key="subject"):
    """A customer is to be forgotten, and these orders were not final. Emitted with a delay."""

    subject: str
    order_ids: list[UUID]


class CustomerForgotten(DomainEvent, key="subject"):
    """All orders of a customer are final, and their address is blanked."""

    subject: str
