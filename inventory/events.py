"""Events that inventory emits."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from outbox import DomainEvent


class StockLine(BaseModel):
    """A quantity of one product."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int


class MissingLine(BaseModel):
    """A product with fewer units available than wanted."""

    model_config = ConfigDict(frozen=True)

    sku: str
    wanted: int
    available: int


class StockReserved(DomainEvent, key="order_id"):
    """All units of the order are reserved."""

    order_id: UUID


class StockUnavailable(DomainEvent, key="order_id"):
    """At least one product is short, so no unit is reserved."""

    order_id: UUID
    missing: list[MissingLine]


class StockReleased(DomainEvent, key="order_id"):
    """The units reserved for the order are available again."""

    order_id: UUID
    lines: list[StockLine]


class StockIssued(DomainEvent, key="order_id"):
    """The units reserved for the order are shipped."""

    order_id: UUID
    lines: list[StockLine]


class StockReturned(DomainEvent, key="order_id"):
    """Units of the order were refunded and are available again."""

    order_id: UUID
    refund_id: UUID
    lines: list[StockLine]
