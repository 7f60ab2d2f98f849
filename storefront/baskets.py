"""The basket of a visitor, kept in a signed cookie.

So a visitor without an account stores no row in our tables, and a session that ends takes no basket
with it. See docs/decisions/0070-the-basket-is-a-signed-cookie.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.core import signing
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase

#: Maximum units of one product.
MOST_UNITS = 99
#: Maximum products of a basket. The API accepts as many lines.
MOST_PRODUCTS = 100
LONGEST_SKU = 64

COOKIE = "basket"
KEPT_FOR = timedelta(days=14)
#: Characters of the cookie's value. Browsers keep cookies of up to 4096, with name and attributes.
LONGEST_VALUE = 3800
_SALT = "storefront.basket"
#: Keys of placed orders that a basket remembers.
_MOST_PLACED = 8


class Basket:
    """Units by SKU, and the idempotency key of the order that they become.

    Each change of the units renews the key, and a request that changes none keeps it. So the forms
    of two tabs have the same key while they show the same basket, and place one order.

    Attributes:
        is_changed: whether the browser has to store another value.
    """

    def __init__(self, value: str = "") -> None:
        """Take the value of the cookie. One that we have not signed is an empty basket."""
        self._value = value
        self.is_changed = False

    @cached_property
    def _content(self) -> dict[str, Any]:
        try:
            content = signing.loads(self._value, salt=_SALT, max_age=KEPT_FOR)
        except signing.BadSignature:
            content = {}
        return {"lines": {}, "key": "", "placed": [], **content}

    @property
    def value(self) -> str:
        """The value of the cookie; "" without anything to remember."""
        is_empty = not self._content["lines"] and not self._content["placed"]
        return "" if is_empty else _signed(self._content)

    @property
    def lines(self) -> dict[str, int]:
        """The units by SKU, in the order in which they were added."""
        return dict(self._content["lines"])

    @property
    def key(self) -> str:
        """The idempotency key of the present units; "" if there were never any."""
        return str(self._content["key"])

    def add(self, sku: str, quantity: int) -> set[str]:
        """Add units of a product, as `fill` does."""
        return self.replace(sku, self.lines.get(sku, 0) + quantity)

    def replace(self, sku: str, quantity: int) -> set[str]:
        """Replace the units of a product, as `fill` does; 0 removes it."""
        return self.fill({**self.lines, sku: quantity})

    def fill(self, lines: Mapping[str, int]) -> set[str]:
        """Replace all units, up to MOST_UNITS, MOST_PRODUCTS and LONGEST_VALUE.

        Returns:
            The SKUs of which fewer units than wanted, or none, are in the basket.
        """
        wanted = {sku: units for sku, units in lines.items() if units > 0 and sku}
        lines = {
            sku: min(units, MOST_UNITS)
            for sku, units in list(wanted.items())[:MOST_PRODUCTS]
            if len(sku) <= LONGEST_SKU
        }
        if lines != self.lines:
            self._store(lines)
        return {sku for sku, units in wanted.items() if self.lines.get(sku, 0) < units}

    def take(self, ordered: Mapping[str, int], *, key: str) -> None:
        """Remove the units of the order that was placed with this key; once, if it is repeated."""
        if self.has_placed(key):
            return
        placed = [*self._content["placed"], key][-_MOST_PLACED:]
        self._content["placed"], self.is_changed = placed, True
        self.fill({sku: units - ordered.get(sku, 0) for sku, units in self.lines.items()})

    def has_placed(self, key: str) -> bool:
        """Return whether an order was placed with this key."""
        return key in self._content["placed"]

    def forget(self) -> None:
        """Remove all units, and the keys of placed orders."""
        self._content.update(lines={}, key="", placed=[])
        self.is_changed = True

    def _store(self, lines: dict[str, int]) -> None:
        """Store the lines under a new key, without the last ones if the cookie is too long."""
        content = {**self._content, "key": str(uuid4()), "lines": lines}
        while len(_signed(content)) > LONGEST_VALUE:
            lines.popitem()
        self._content.update(content)
        self.is_changed = True


class BasketMiddleware:
    """Set `request.basket`, and store its changes in the browser."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        basket = Basket(request.COOKIES.get(COOKIE, ""))
        request.basket = basket  # type: ignore[attr-defined]  # read by `basket_of` and templates
        response = self.get_response(request)
        if basket.is_changed:
            response.set_cookie(
                COOKIE,
                basket.value,
                max_age=KEPT_FOR if basket.value else 0,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response


@receiver(user_logged_out, dispatch_uid="storefront.baskets")
def forget(sender: object, request: HttpRequest, **more: Any) -> None:
    """Empty the basket at each sign-out, also at one from the admin."""
    if basket := getattr(request, "basket", None):
        basket.forget()


def basket_of(request: HttpRequest) -> Basket:
    """Return the basket of the visitor."""
    basket: Basket = request.basket  # type: ignore[attr-defined]  # the middleware sets it
    return basket


def _signed(content: dict[str, Any]) -> str:
    return signing.dumps(content, salt=_SALT, compress=True)
