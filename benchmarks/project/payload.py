"""The order that every side stores and publishes: about 400 bytes of JSON."""

from __future__ import annotations

from uuid import uuid4

from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12


class Line(TypedDict):
    sku: str
    name: str
    quantity: int
    price: int


class Payload(TypedDict):
    order_id: str
    customer: str
    currency: str
    total: int
    note: str
    lines: list[Line]


LINES: list[Line] = [
    {"sku": "TEA-SENCHA-100", "name": "Sencha, first flush, 100 g", "quantity": 2, "price": 1480},
    {"sku": "WHISK-CHASEN", "name": "Bamboo whisk", "quantity": 1, "price": 3200},
    {"sku": "BOWL-RAKU-07", "name": "Raku bowl, black", "quantity": 1, "price": 9800},
]


def new_payload() -> Payload:
    """Return a new order's facts."""
    return {
        "order_id": str(uuid4()),
        "customer": "c-0048213",
        "currency": "JPY",
        "total": 15960,
        "note": "Please ring twice",
        "lines": LINES,
    }
