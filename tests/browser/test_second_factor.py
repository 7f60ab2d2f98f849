"""Staff set up a second factor, and sign in with it."""

from __future__ import annotations

import re
import time
from base64 import b32decode
from collections.abc import Iterator

import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Browser, Page, expect

from shop.up.credentials import ADMIN
from tests.browser.conftest import HEIGHT, PHONE, WIDE
from tests.browser.page_checks import (
    BrowserErrors,
    findings,
    inline_parts,
    overflow,
    policy_errors,
)
from tests.browser.site import Site, running_site

RESET = f"""
from django.contrib.auth.models import User
from shop.second_factor import services
services.remove(user=User.objects.get(username="{ADMIN}"), change="reset")
"""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop that requires it."""
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, SECOND_FACTOR="required") as site:
        yield site


@pytest.fixture
def window(browser: Browser, site: Site) -> Iterator[Page]:
    """A window in which nobody is signed in, and which must not complain of anything."""
    context = browser.new_context(base_url=site.url, viewport={"width": WIDE, "height": HEIGHT})
    page = context.new_page()
    errors = BrowserErrors(page)
    yield page
    context.close()
    # A refused code is answered with 429, which Chromium reports as an error.
    assert [error for error in errors.found if "429" not in error] == []


def enter_password(page: Page, site: Site, *, asked: str = "/admin/") -> None:
    page.goto(asked)
    page.get_by_label("Username").fill(ADMIN)
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Code").wait_for()


def enter_code(page: Page, code: str) -> None:
    """Type it where the cursor is, and press Enter."""
    expect(page.get_by_label("Code")).to_be_focused()
    page.keyboard.type(code)
    page.keyboard.press("Enter")


def code_of(secret: str, *, steps: int = 0) -> str:
    """What an authenticator app shows now, or `steps` times 30 seconds later."""
    shown = TOTP(b32decode(secret.replace(" ", "")), drift=steps)
    shown.time = time.time()
    return f"{shown.token():06d}"


def assert_no_page_errors(page: Page) -> None:
    answer = page.reload()
    assert answer is not None
    assert inline_parts(answer.text()) == []
    assert policy_errors(answer) == []
    for width in (WIDE, PHONE):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
            assert overflow(page) == [], (width, scheme)
    page.set_viewport_size({"width": WIDE, "height": HEIGHT})
    page.emulate_media(color_scheme="light")


def recovery_codes(page: Page) -> list[str]:
    """Those that the page shows, which is then left."""
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    assert overflow(page) == []
    codes = page.locator(".recovery-codes code").all_inner_texts()
    page.get_by_role("link", name="I have stored them: continue").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    return codes


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in again").wait_for()


def set_up(page: Page, site: Site) -> tuple[str, list[str]]:
    """Set it up anew, by way of a wrong code; return the secret and the recovery codes."""
    site.run(RESET)
    enter_password(page, site)
    expect(page.get_by_role("img", name="QR code of the secret")).to_be_visible()
    assert_no_page_errors(page)
    secret = page.locator("code").inner_text()
    enter_code(page, code_of(secret, steps=-10))
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    enter_code(page, code_of(secret))
    return secret, recovery_codes(page)


class TestAMemberOfStaff:
    def test_sees_only_the_setup_until_it_is_done(self, window: Page, site: Site):
        site.run(RESET)
        enter_password(window, site, asked="/admin/orders/order/")

        for asked in ("/admin/", "/admin/outbox/minute/", "/admin/second-factor/"):
            window.goto(asked)
            expect(window.get_by_role("heading", name="Set up a second factor")).to_be_visible()

    def test_signs_in_with_it(self, window: Page, site: Site):
        secret, codes = set_up(window, site)
        log_out(window)

        enter_password(window, site, asked="/admin/orders/order/")
        expect(window.get_by_role("heading", name="Enter your code")).to_be_visible()
        assert_no_page_errors(window)
        enter_code(window, code_of(secret, steps=-10))
        expect(window.get_by_text("This code is wrong")).to_be_visible()
        enter_code(window, codes[0])

        expect(window).to_have_url(re.compile(r"/admin/orders/order/$"))

    def test_renews_the_recovery_codes(self, window: Page, site: Site):
        _secret, codes = set_up(window, site)

        window.get_by_role("link", name="Second factor").click()
        expect(window.get_by_text("10 recovery codes are left.")).to_be_visible()
        assert_no_page_errors(window)
        window.get_by_role("button", name="Show new recovery codes").click()
        renewed = recovery_codes(window)
        assert len(set(codes)) == len(set(renewed)) == 10
        assert set(renewed) & set(codes) == set()

        log_out(window)
        enter_password(window, site)
        enter_code(window, renewed[3])
        expect(window.get_by_role("heading", name="Site administration")).to_be_visible()


class TestItsPages:
    def test_are_accessible(self, browser: Browser, site: Site):
        """Of axe; in a window without errors, since axe tries out forbidden styles."""
        site.run(RESET)
        context = browser.new_context(base_url=site.url, viewport={"width": PHONE, "height": 900})
        page = context.new_page()
        enter_password(page, site)
        assert findings(page) == []
        enter_code(page, code_of(page.locator("code").inner_text()))
        expect(page.locator(".recovery-codes")).to_be_visible()
        assert findings(page) == []
        page.goto("/admin/second-factor/")
        assert findings(page) == []
        log_out(page)
        enter_password(page, site)
        assert findings(page) == []
        context.close()

    def test_are_in_japanese(self, browser: Browser, site: Site):
        context = browser.new_context(base_url=site.url, locale="ja-JP")
        page = context.new_page()
        page.goto("/admin/")
        page.locator("#id_username").fill(ADMIN)
        page.locator("#id_password").fill(site.password)
        page.locator("input[type=submit]").click()

        expect(page.get_by_text(re.compile("認証アプリに表示|認証アプリで次の"))).to_be_visible()
        context.close()
