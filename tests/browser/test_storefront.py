"""Customers in the storefront: from the catalogue to an order, and what may go wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from shop.demo.scenarios import OrderSpec
from tests.browser.conftest import HEIGHT, PHONE, WIDE, WIDTHS
from tests.browser.page_checks import (
    BrowserErrors,
    findings,
    inline_parts,
    overflow,
    policy_errors,
)
from tests.browser.site import Site
from tests.browser.visitor import PHRASE, READY, go_to_checkout, place, sign_up

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

#: Milliseconds; reaching them is a failure.
PATIENCE = 60_000


@pytest.fixture
def window(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """A window on a phone, in which nobody is signed in."""
    context = browser.new_context(base_url=site.url, viewport={"width": PHONE, "height": HEIGHT})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    page = window.new_page()
    errors = BrowserErrors(page)
    yield page
    assert errors.found == []


def orders_of(site: Site, name: str) -> int:
    return int(
        site.value(
            "SELECT count(*) FROM orders_order o JOIN auth_user u ON u.id = o.customer_id"
            " WHERE u.username = ?",
            name,
        )
    )


def assert_good_at_each_width(page: Page) -> None:
    """Nothing is inline, cut off or hard to read, in each width and colour scheme."""
    answer = page.reload()
    assert answer is not None
    assert policy_errors(answer) == []
    assert inline_parts(answer.text()) == []
    for width in (*WIDTHS, WIDE):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            assert overflow(page) == [], (width, scheme)
    page.set_viewport_size({"width": PHONE, "height": HEIGHT})


def assert_accessible(page: Page) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
        found = findings(page, colours_alone=scheme == "dark")
        assert not found, f"{scheme}:\n" + "\n".join(map(str, found))


class TestACustomer:
    def test_buys_and_sees_the_order_become_ready_without_a_reload(self, page: Page, site: Site):
        sign_up(page)
        go_to_checkout(page)

        place(page)
        page.evaluate("window.hasNotBeenLoadedAgain = true")
        expect(page.get_by_text(READY)).to_be_visible()

        assert page.evaluate("window.hasNotBeenLoadedAgain") is True

    def test_pays_by_another_card_after_a_declined_one(self, page: Page):
        sign_up(page)
        go_to_checkout(page)
        page.get_by_label("Card without money").check()
        place(page)
        expect(page.get_by_text("Cancelled: the bank declined the card.")).to_be_visible()
        expect(page.get_by_text("You paid nothing.")).to_be_visible()

        page.get_by_role("button", name="Order these products again").click()
        page.get_by_role("link", name="To the checkout").click()
        place(page)

        expect(page.get_by_text(READY)).to_be_visible()

    def test_gets_a_reason_if_the_last_piece_is_sold_during_the_checkout(
        self, page: Page, site: Site
    ):
        sign_up(page)
        go_to_checkout(page, "Wall clock, the last one")
        site.place(OrderSpec(customer="alice", lines={"CLOCK-WALL": 1}))
        site.wait_until_settled()

        place(page)

        expect(page.get_by_text("Cancelled: the goods were sold out.")).to_be_visible()
        page.goto("/")
        expect(page.get_by_text("Sold out")).to_be_visible()

    def test_cancels_an_order(self, page: Page):
        sign_up(page)
        go_to_checkout(page)
        place(page)
        expect(page.get_by_text(READY)).to_be_visible()

        page.get_by_text("Cancel this order").click()
        page.get_by_role("button", name="Cancel the order now").click()

        expect(page.get_by_text("Cancelled, as you asked.")).to_be_visible()
        expect(page.get_by_text("The bank has returned the amount.")).to_be_visible()


class TestOneOrder:
    def test_is_placed_by_a_double_click(self, page: Page, site: Site):
        name = sign_up(page)
        go_to_checkout(page)

        page.get_by_role("button", name="Place the order").dblclick()

        expect(page.get_by_role("heading", name=re.compile("^Order "))).to_be_visible()
        assert orders_of(site, name) == 1

    def test_is_placed_by_a_form_to_which_the_back_button_leads(self, page: Page, site: Site):
        name = sign_up(page)
        go_to_checkout(page)
        place(page)

        page.go_back()

        button = page.get_by_role("button", name="Place the order")
        expect(button.or_(page.get_by_text("Your basket is empty."))).to_be_visible()
        if button.count():  # the browser shows the form as it was
            place(page)
        assert orders_of(site, name) == 1

    def test_is_placed_after_the_session_has_ended_on_the_way(
        self, window: BrowserContext, page: Page, site: Site
    ):
        name = sign_up(page)
        go_to_checkout(page)
        window.clear_cookies(name="sessionid")

        page.get_by_role("button", name="Place the order").click()
        expect(page.get_by_text("Your session has ended.")).to_be_visible()
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PHRASE)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name=re.compile("1 . Sencha"))).to_be_visible()
        place(page)

        assert orders_of(site, name) == 1

    def test_is_placed_and_followed_without_javascript(self, browser: Browser, site: Site):
        context = browser.new_context(base_url=site.url, java_script_enabled=False)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        name = sign_up(page)
        go_to_checkout(page)

        place(page)

        expect(page.get_by_text(READY)).to_be_visible()
        assert orders_of(site, name) == 1
        context.close()


class TestThePagesOfACustomer:
    def test_fit_each_width_and_are_accessible(self, page: Page, site: Site):
        sign_up(page)
        go_to_checkout(page)
        assert_good_at_each_width(page)
        place(page)
        expect(page.get_by_text(READY)).to_be_visible()
        assert_good_at_each_width(page)
        for url in ("/orders/", "/account/", "/account/password/"):
            page.goto(url)
            assert_good_at_each_width(page)

    def test_are_accessible(self, window: BrowserContext, site: Site):
        """Of axe; in a window of its own, since axe tries out styles that the policy forbids."""
        page = window.new_page()
        sign_up(page)
        page.goto("/")
        page.get_by_role("button", name=re.compile("Add to basket: Sencha")).click()
        page.goto("/basket/")
        assert_accessible(page)
        page.goto("/checkout/")
        assert_accessible(page)
        page.get_by_label("Card without money").check()
        place(page)
        expect(page.get_by_text("Cancelled: the bank declined the card.")).to_be_visible()
        assert_accessible(page)
        for url in ("/orders/", "/account/", "/account/password/"):
            page.goto(url)
            assert_accessible(page)

    def test_are_accessible_with_errors(self, window: BrowserContext, site: Site):
        page = window.new_page()
        page.goto("/account/sign-up/")
        page.get_by_label("Username").fill("a name with blanks")
        page.get_by_label("E-mail address").fill("nobody@localhost")
        page.locator("[name=password1]").fill("1")
        page.locator("[name=password2]").fill("2")
        page.get_by_role("button", name="Sign up").click()
        expect(page.get_by_role("alert").first).to_be_visible()
        assert_accessible(page)
