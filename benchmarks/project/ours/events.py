from __future__ import annotations

from typing import TypedDict
from uuid import UUID

from outbox import DomainEvent


class Line(TypedDict):
    sku: str
    name: str
    quantity: int
    price: int


class OrderPlaced(DomainEvent, key="order_id"):
    """An order is stored."""

    order_id: UUID
    customer: str
    currency: str
    total: int
    note: str
    lines: list[Line]
