from __future__ import annotations

from dataclasses import dataclass

from django_domain_events import DURABLE, event, receiver

from benchmarks.project.sales.services import record


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    name: str
    quantity: int
    price: int


@event
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    order_id: str
    customer: str
    currency: str
    total: int
    note: str
    lines: list[Line]


@receiver(OrderPlaced, mode=DURABLE)
def record_effect(placed: OrderPlaced) -> None:
    record(placed.order_id, (line.quantity for line in placed.lines))
