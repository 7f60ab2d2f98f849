"""A hidden page does not poll: with another tab in front of it, in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request

from tests.browser import chromium
from tests.browser.pages import PAGES
from tests.browser.scene import Scene
from tests.browser.site import Site
from tests.browser.visitor import go_to_checkout, place, sign_up
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

LIVE = ("the overview", "the handlers", "the timeline of an order", "an order that is through")
#: By the page's own clock: long enough to ask many times.
LONG = "05:00"


@pytest.fixture
def window(browser: Browser, browser_path: str, logged_in: str) -> Iterator[BrowserContext]:
    """A window whose tabs hide each other, of the member of staff who is logged in."""
    with chromium.window_of_tabs(browser, browser_path) as window:
        window.add_cookies(json.loads(Path(logged_in).read_text())["cookies"])
        # Timers run when a test says so, however busy the machine is.
        window.clock.install(time=0)
        window.clock.pause_at(1)
        yield window


@pytest.fixture
def other(window: BrowserContext) -> Page:
    return window.new_page()


@pytest.fixture(params=LIVE)
def page(other: Page, site: Site, scene: Scene, request: pytest.FixtureRequest) -> Page:
    """A live page, in front of the other tab."""
    page = other.context.new_page()
    page.goto(site.url + PAGES[request.param](site, scene))
    assert is_seen(page)
    return page


@pytest.fixture
def asked(page: Page) -> list[str]:
    """The addresses that the page's scripts ask for from now on; the browser asks for its icon."""
    found: list[str] = []

    def note(one: Request) -> None:
        if one.resource_type in ("fetch", "xhr"):
            found.append(one.url)

    page.on("request", note)
    return found


def is_seen(page: Page) -> bool:
    return bool(page.evaluate("document.visibilityState === 'visible'"))


class TestALivePage:
    def test_polls_at_its_interval(self, page: Page, asked: list[str]):
        page.clock.run_for(LONG)

        eventually(lambda: is_seen(page) and asked, "the page asks")

    def test_does_not_poll_while_hidden_and_polls_at_once_when_shown(
        self, page: Page, other: Page, asked: list[str], site: Site
    ):
        other.bring_to_front()
        eventually(lambda: not is_seen(page), "the page is hidden")
        page.clock.run_for(LONG)
        page.evaluate("fetch('/livez')")

        page.bring_to_front()

        eventually(lambda: is_seen(page) and len(asked) > 1, "the page asks")
        # Whatever it had asked for while it was hidden would stand before it.
        assert asked[0] == f"{site.url}/livez"


class TestTheOrderOfACustomer:
    """The page that follows an order in the storefront."""

    @pytest.fixture
    def page(self, other: Page, site: Site) -> Page:
        """The page of a new order, in front of the other tab."""
        context = other.context
        context.clear_cookies()
        page = context.new_page()
        sign_up(page, site.url)
        go_to_checkout(page, url=site.url)
        place(page)
        site.wait_until_settled()
        return page

    def test_asks_only_while_it_is_seen(
        self, page: Page, other: Page, asked: list[str], site: Site
    ):
        other.bring_to_front()
        eventually(lambda: not is_seen(page), "the page is hidden")
        page.clock.run_for(LONG)
        page.evaluate("fetch('/livez')")

        page.bring_to_front()

        eventually(lambda: is_seen(page) and len(asked) > 1, "the page asks")
        assert asked[0] == f"{site.url}/livez"
