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

_LINES, _KEY, _PLACED = "basket_lines", "basket_key", "basket_placed"
#: Keys of placed orders that a session remembers.
_MOST_PLACED = 20


class Basket:
    """Units by SKU, and the idempotency key of the order that they become.

    Each change of the units renews the key, and a request that changes none keeps it. So the forms
    of two tabs have the same key while they show the same basket, and place one order.
    """

    def __init__(self, session: SessionBase) -> None:
        self._session = session

    @property
    def lines(self) -> dict[str, int]:
        """The units by SKU, in the order in which they were added."""
        return dict(self._session.get(_LINES, {}))

    @property
    def key(self) -> str:
        """The idempotency key of the present units."""
        if _KEY not in self._session:  # nothing was ever put into this basket
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
        lines = dict(wanted[:MOST_PRODUCTS])
        if lines != self.lines:
            self._session[_LINES], self._session[_KEY] = lines, str(uuid4())

    def take(self, ordered: Mapping[str, int], *, key: str) -> None:
        """Remove the units of the order that was placed with this key; once, if it is repeated."""
        placed = self._session.get(_PLACED, [])
        if key in placed:
            return
        self._session[_PLACED] = [*placed, key][-_MOST_PLACED:]
        self.fill({sku: units - ordered.get(sku, 0) for sku, units in self.lines.items()})
