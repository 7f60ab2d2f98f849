"""A customer in the storefront: signs up, fills the basket, and places an order."""

from __future__ import annotations

import re
from uuid import uuid4

from playwright.sync_api import Page, expect

READY = "Your order is paid and ready to ship."
PHRASE = "a long phrase 1"


def sign_up(page: Page, url: str = "") -> str:
    """Create a customer, whose name is returned.

    Args:
        url: of the site, for a window without a `base_url`.
    """
    name = f"customer-{uuid4().hex[:12]}"
    page.goto(f"{url}/account/sign-up/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.com")
    page.locator("[name=password1]").fill(PHRASE)
    page.locator("[name=password2]").fill(PHRASE)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("button", name=re.compile("Sign out"))).to_be_visible()
    return name


def go_to_checkout(page: Page, product: str = "Sencha green tea, 100 g", *, url: str = "") -> None:
    page.goto(f"{url}/")
    page.get_by_role("button", name=f"Add to basket: {product}").click()
    page.get_by_role("link", name=re.compile("Basket")).click()
    page.get_by_role("link", name="To the checkout").click()
    expect(page.get_by_role("heading", name="Checkout")).to_be_visible()


def place(page: Page) -> None:
    page.get_by_role("button", name="Place the order").click()
    expect(page.get_by_role("heading", name=re.compile("^Order "))).to_be_visible()
