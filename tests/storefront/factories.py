"""Customers, products and forms for tests of the storefront."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from inventory.services import add_product, receive_stock
from shared.money import Money
from storefront.baskets import COOKIE, Basket

PASSWORD = "a long phrase 1"


def product(
    sku: str = "TEA",
    *,
    name: str = "Green tea",
    name_ja: str = "緑茶",
    price: int = 1280,
    units: int = 10,
) -> str:
    """Add a product, with units in stock, and return its SKU."""
    unit_price = Money(amount=price, currency="JPY")
    add_product(sku=sku, name=name, name_ja=name_ja, unit_price=unit_price)
    if units:
        receive_stock(sku=sku, quantity=units, reference="test")
    return sku


def customer(name: str = "alice") -> User:
    return User.objects.create_user(name, f"{name}@example.com", PASSWORD)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def put_into_basket(client: Client, sku: str, quantity: int = 1) -> None:
    client.post("/basket/change/", {"sku": sku, "quantity": quantity, "adds": "yes"})


def basket_of(client: Client) -> dict[str, int]:
    """Return the units by SKU in the basket of a visitor."""
    cookie = client.cookies.get(COOKIE)
    return Basket(cookie.value if cookie else "").lines


def checkout_form(client: Client, **changed: Any) -> dict[str, Any]:
    """Return the fields of the checkout's form as a browser sends them, with some changed."""
    return checkout_fields(client.get("/checkout/").content.decode()) | changed


def checkout_fields(html: str) -> dict[str, Any]:
    """Return the fields of the form on a page of the checkout, with the card `tok_success`."""
    fields: dict[str, Any] = {"card": "tok_success"}
    single = r'<input[^>]* name="(key|expected_total|email)" value="([^"]*)"'
    for name, value in re.findall(single, html):
        fields[name] = value
    fields["line"] = re.findall(r'name="line" value="([^"]*)"', html)
    return fields
