from typing import Any

from outbox import DomainEvent, upcast


class OrderPlaced(DomainEvent, key="order", version=2):
    order: str
    goods: int
    shipping: int
    emitted_with: str


@upcast("till.OrderPlaced", from_version=1)
def split_the_total(payload: dict[str, Any]) -> dict[str, Any]:
    total = payload.pop("total")
    return {**payload, "goods": total, "shipping": 0}


class OrderBooked(DomainEvent, key="order"):
    order: str
    emitted_with: str
