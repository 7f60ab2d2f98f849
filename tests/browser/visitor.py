"""A customer in the storefront, who signs up and places an order; and staff, whose clicks count."""

from __future__ import annotations

import re
from uuid import uuid4

from playwright.sync_api import Locator, Page, expect

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


class Hand:
    """Clicks in one page, and counts the clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, target: Locator) -> None:
        """Click once, and wait for the page that follows."""
        target.click()
        self.clicks += 1
        self.page.wait_for_load_state()


def open_failures(hand: Hand, handler: str) -> None:
    """On the overview, click the link to the failures of a handler."""
    hand.click(hand.page.locator(f"#outbox-overview a[href$='handler={handler}']").first)


def retry_failures(hand: Hand, handler: str, *, reason: str) -> None:
    """From the overview, retry the deliveries of a handler that fail for one cause."""
    open_failures(hand, handler)
    hand.click(hand.page.get_by_role("button", name="Retry now", exact=True))
    hand.page.get_by_label("Reason").fill(reason)
    hand.click(hand.page.locator("input[type=submit].default"))
