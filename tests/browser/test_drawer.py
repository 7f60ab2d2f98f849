"""The development drawer: what a click caused, and faults that a visitor causes by a button."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import HEIGHT, WIDE
from tests.browser.page_checks import BrowserErrors
from tests.browser.site import Site, running_site
from tests.browser.visitor import READY, go_to_checkout, place, sign_up

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop whose handlers have the attempts of production, and close together."""
    folder = tmp_path_factory.mktemp("site")
    short = json.dumps({"BACKOFF_BASE": 0.5, "BACKOFF_CAP": 2, "LEASE_SECONDS": 5})
    with running_site(folder, OUTBOX=short) as site, site.mail_server():
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    context = browser.new_context(base_url=site.url, viewport={"width": WIDE, "height": HEIGHT})
    page = context.new_page()
    errors = BrowserErrors(page)
    yield page
    context.close()
    assert errors.found == []


@pytest.fixture
def drawer(page: Page) -> Locator:
    return page.get_by_role("complementary", name="Behind the scenes")


class TestTheDrawer:
    """Each page of a development copy has it."""

    def test_shows_what_a_click_caused(self, page: Page, drawer: Locator):
        sign_up(page)
        expect(drawer).to_contain_text("storefront.VerificationRequested")
        go_to_checkout(page)

        place(page)

        expect(drawer).to_contain_text("Your last click: Place the order")
        expect(drawer).to_contain_text(re.compile(r"inventory\.reserve_stock\s+done after"))
        expect(drawer.get_by_text("orders.OrderReadyToShip")).to_be_visible()
        # Two of them are the bank's reports about the authorization and the capture.
        expect(drawer).to_contain_text(re.compile(r"8 events, \d+ handler calls: \d+ done\."))

    def test_shows_attempts_that_fail_while_the_bank_is_down(self, page: Page, drawer: Locator):
        sign_up(page)
        go_to_checkout(page)

        drawer.get_by_role("button", name="Bank down for 30 s").click()
        expect(drawer).to_contain_text(re.compile(r"The bank is down\. \d+ seconds? left\."))
        place(page)
        expect(drawer).to_contain_text(re.compile(r"authorize_payment\s+failed \d times?"))
        expect(drawer).to_contain_text(re.compile(r"inventory\.reserve_stock\s+done after"))

        expect(page.get_by_text(READY)).to_be_visible()

    def test_kills_a_worker_whose_work_is_done_by_the_next_one(self, page: Page, drawer: Locator):
        sign_up(page)
        go_to_checkout(page)

        drawer.get_by_role("button", name="Kill a worker").click()
        expect(drawer).to_contain_text("The worker was killed.")
        place(page)

        expect(page.get_by_text(READY)).to_be_visible()

    def test_stays_closed_from_page_to_page(self, page: Page):
        page.goto("/")
        page.locator("#drawer > summary").click()

        page.goto("/basket/")

        expect(page.locator("#drawer-story")).not_to_be_visible()
