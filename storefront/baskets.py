"""The basket of a visitor, kept in the session."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from django.contrib.sessions.backends.base import SessionBase

#: Maximum units of one product.
MOST_UNITS = 99
#: Maximum products of a basket. The API accepts as many lines.
MOST_PRODUCTS = 100
LONGEST_SKU = 64

_LINES, _KEY = "basket_lines", "basket_key"


class Basket:
    """Units by SKU, and the idempotency key of the order that they become.

    Each change of the units renews the key. So the forms of two tabs have the same key while they
    show the same basket, and place one order.
    """

    def __init__(self, session: SessionBase) -> None:
        self._session = session

    @property
    def lines(self) -> dict[str, int]:
        """The units by SKU, in the order in which they were added."""
        return dict(self._session.get(_LINES, {}))

    @property
    def key(self) -> str:
        """The idempotency key, created on first use."""
        if _KEY not in self._session:
            self._session[_KEY] = str(uuid4())
        return str(self._session[_KEY])

    @property
    def units(self) -> int:
        """The number of units of all products."""
        return sum(self.lines.values())

    def add(self, sku: str, quantity: int) -> None:
        """Add units of a product, up to MOST_UNITS."""
        self.set(sku, self.lines.get(sku, 0) + quantity)

    def set(self, sku: str, quantity: int) -> None:
        """Replace the units of a product; 0 removes it."""
        self.fill({**self.lines, sku: quantity})

    def fill(self, lines: Mapping[str, int]) -> None:
        """Replace all units. Drop lines beyond the limits, and those without units."""
        wanted = [
            (sku, min(quantity, MOST_UNITS))
            for sku, quantity in lines.items()
            if quantity > 0 and sku and len(sku) <= LONGEST_SKU
        ]
        self._session[_LINES] = dict(wanted[:MOST_PRODUCTS])
        self._session.pop(_KEY, None)

    def clear(self) -> None:
        """Remove all products. The next order has a new key."""
        self.fill({})
