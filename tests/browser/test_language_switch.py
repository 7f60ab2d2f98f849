"""Visitors and staff choose the language by the keyboard, and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import HEIGHT, PHONE, WIDE
from tests.browser.keyboard import press
from tests.browser.layout_checks import cut_off
from tests.browser.page_checks import BrowserErrors, findings, overflow
from tests.browser.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

PAGES = ["/", "/admin/", "/admin/outbox/minute/?history=day"]


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def page(
    browser: Browser, site: Site, logged_in: str, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """A window of the superuser, which keeps no cookie for other tests."""
    context = browser.new_context(
        base_url=site.url,
        storage_state=logged_in,
        viewport={"width": WIDE, "height": HEIGHT},
        java_script_enabled=request.param,
    )
    page = context.new_page()
    errors = BrowserErrors(page)
    yield page
    assert errors.found == []
    context.close()


@pytest.mark.parametrize("url", PAGES)
class TestTheSwitch:
    def test_is_used_by_a_click_and_keeps_the_page(self, page: Page, site: Site, url: str):
        page.goto(url)

        page.get_by_role("button", name="日本語").click()

        expect(page.locator("html")).to_have_attribute("lang", "ja")
        assert page.url == site.url + url
        page.get_by_role("button", name="English").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.parametrize("url", PAGES)
class TestTheSwitchOfAPageWithScripts:
    @pytest.fixture
    def page(self, browser: Browser, site: Site, logged_in: str) -> Iterator[Page]:
        context = browser.new_context(base_url=site.url, storage_state=logged_in)
        yield context.new_page()
        context.close()

    def test_is_used_by_the_keyboard(self, page: Page, url: str):
        page.goto(url)

        press(page, page.get_by_role("button", name="日本語"))

        expect(page.locator("html")).to_have_attribute("lang", "ja")

    def test_fits_and_is_accessible_in_both_languages(self, page: Page, url: str):
        page.goto(url)
        for other, language in (("日本語", "ja"), ("English", "en")):
            page.get_by_role("button", name=other).click()
            expect(page.locator("html")).to_have_attribute("lang", language)
            page.wait_for_load_state()
            for width in (WIDE, PHONE):
                page.set_viewport_size({"width": width, "height": HEIGHT})
                assert overflow(page) == []
                assert cut_off(page, width) == []
        assert findings(page) == []
