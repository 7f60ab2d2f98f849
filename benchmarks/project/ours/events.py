from __future__ import annotations

from uuid import UUID

from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

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
