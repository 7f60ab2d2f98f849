"""Every page, light and dark, on a wide screen and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from outbox.admin.pages import PAGES as OUTBOX_PAGES
from tests.browser.conftest import HEIGHT, PHONE, WIDE, WIDTHS
from tests.browser.layout_checks import cut_off
from tests.browser.page_checks import (
    BrowserErrors,
    findings,
    inline_parts,
    overflow,
    policy_errors,
)
from tests.browser.pages import PAGES, WITHOUT_LOGIN
from tests.browser.scene import Scene
from tests.browser.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

#: Those with the longest texts.
IN_JAPANESE = (
    "the overview",
    "the deliveries",
    "the dead letters",
    "the handlers",
    "the map",
    "the timeline of a stuck order",
    "the orders",
    "a list of another app",
)
_STYLES = """
.far { position: absolute; left: 380px; }
.narrow, .dotted { width: 60px; overflow: hidden; }
.low { height: 30px; overflow: hidden; }
.scrolls { overflow: auto; }
.dotted { white-space: nowrap; text-overflow: ellipsis; }
.over { margin-top: -40px; display: block; }
"""
SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Windows:
    """A window for each width, of a stranger and of the superuser."""

    def __init__(self, browser: Browser, site: Site, logged_in: str) -> None:
        self._browser, self._site, self._logged_in = browser, site, logged_in
        self._open: dict[tuple[int, bool], BrowserContext] = {}

    def of(self, width: int, *, is_staff: bool) -> BrowserContext:
        """Return the window, opened for the first page that is shown in it."""
        if (width, is_staff) not in self._open:
            self._open[width, is_staff] = self._browser.new_context(
                base_url=self._site.url,
                storage_state=self._logged_in if is_staff else None,
                viewport={"width": width, "height": HEIGHT},
            )
        return self._open[width, is_staff]

    def close(self) -> None:
        for context in self._open.values():
            context.close()


@pytest.fixture(scope="session")
def windows(browser: Browser, site: Site, logged_in: str) -> Iterator[Windows]:
    """Windows for all pages. A new window for each page would fetch its styles again."""
    with closing(Windows(browser, site, logged_in)) as windows:
        yield windows


@pytest.fixture
def page(windows: Windows, name: str, width: int) -> Iterator[Page]:
    with closing(windows.of(width, is_staff=name not in WITHOUT_LOGIN).new_page()) as page:
        yield page


class TestEachPage:
    def test_has_no_policy_or_layout_errors(self, page: Page, site: Site, scene: Scene, name: str):
        errors = BrowserErrors(page)
        answer = page.goto(PAGES[name](site, scene))
        assert answer is not None

        assert answer.status == 200
        assert policy_errors(answer) == []
        assert inline_parts(answer.text()) == []
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert overflow(page) == [], scheme
        # Before axe, which tries out styles that the policy forbids.
        assert errors.found == []

    def test_is_accessible(self, page: Page, site: Site, scene: Scene, name: str):
        page.goto(PAGES[name](site, scene))

        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            # The scheme changes nothing but colours.
            found = findings(page, colours_alone=scheme == "dark")
            assert not found, f"{scheme}:\n" + "\n".join(map(str, found))


class TestAnEvent:
    @pytest.mark.parametrize("width", [WIDE], indirect=True)
    @pytest.mark.parametrize("name", ["an event"], indirect=True)
    def test_is_accessible_beside_a_long_duration(
        self, page: Page, site: Site, scene: Scene, name: str
    ):
        """Axe examines a link only where the text beside it is longer than the link."""
        page.goto(PAGES[name](site, scene))
        page.evaluate(
            """document.querySelectorAll(".outbox-delivery h3 .outbox-quiet").forEach(
                (element) => { element.textContent = "12 attempts, 1 hour and 12 minutes"; })"""
        )

        assert findings(page) == []


class TestTheLayout:
    """Seen to fail for Pause, event times, reasons, and the last bars and columns of drawings."""

    @pytest.mark.parametrize("width", [WIDTHS[0]], indirect=True)
    def test_cuts_off_nothing_in_any_window(self, page: Page, site: Site, scene: Scene, name: str):
        page.goto(PAGES[name](site, scene))

        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                assert cut_off(page, width) == [], (scheme, width)
                assert overflow(page) == [], (scheme, width)

    @pytest.mark.parametrize("width", [WIDTHS[0]], indirect=True)
    @pytest.mark.parametrize("name", IN_JAPANESE, indirect=True)
    def test_cuts_off_nothing_in_japanese(self, page: Page, site: Site, scene: Scene, name: str):
        page.set_extra_http_headers({"Accept-Language": "ja"})
        page.goto(PAGES[name](site, scene))

        assert page.locator("html").get_attribute("lang") == "ja"
        for width in WIDTHS:
            assert cut_off(page, width) == [], width


class TestTheLayoutCheck:
    """It would see what it looks for."""

    @pytest.mark.parametrize("width", [PHONE], indirect=True)
    @pytest.mark.parametrize("name", ["the admin"], indirect=True)
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ('<p class="far">Far</p>', "outside of the window"),
            ('<div class="narrow"><a href="#">A_long_word_without_a_break</a></div>', "cut off by"),
            ('<div class="low"><p>One</p><p>Two</p></div>', "cut off below by"),
            ('<p class="dotted">A long sentence that does not fit</p>', "cut off by"),
            ('<p>Under</p><button class="over">Over</button>', "overlapped"),
            ('<div class="narrow scrolls"><button>Pause_the_handler</button></div>', "cut off by"),
            ('<div class="narrow scrolls"><p>A word</p></div>', ""),
            ('<pre class="low scrolls">One\nTwo\nThree\nFour</pre><button>Below</button>', ""),
            (
                '<svg width="50" height="20"><text y="15">Beyond its picture</text></svg>',
                "cut off by",
            ),
        ],
    )
    def test_finds(self, page: Page, site: Site, body: str, problem: str):
        page.set_content(f"<style>{_STYLES}</style>{body}")

        found = cut_off(page, PHONE)

        assert bool(found) == bool(problem)
        assert not problem or any(problem in one for one in found)


class TestTheFormOfAMessage:
    @pytest.mark.parametrize("name", ["the message that cannot be read"], indirect=True)
    def test_is_filled_by_its_button(self, page: Page, site: Site, scene: Scene, name: str):
        page.goto(PAGES[name](site, scene))

        page.get_by_role("button", name="Show the message as it was received").click()

        assert '"source": "/carrier"' in page.get_by_label("Body:", exact=True).input_value()
        assert overflow(page) == []
        assert findings(page) == []


class TestEachConfirmation:
    """The pages that a button leads to."""

    @pytest.mark.parametrize(
        ("name", "button"),
        [
            ("the handlers", "Pause orders.record_stock_reserved"),
            ("the dead letters", "Retry now: all of these"),
            ("a done delivery", "Replay"),
            ("a dead delivery", "Discard"),
        ],
        indirect=["name"],
    )
    def test_is_accessible(self, page: Page, site: Site, scene: Scene, name: str, button: str):
        errors = BrowserErrors(page)
        page.goto(PAGES[name](site, scene))

        page.get_by_role("button", name=button, exact=True).click()

        page.wait_for_load_state()
        assert overflow(page) == []
        assert errors.found == []
        assert findings(page) == []


class TestTheTestedPages:
    def test_include_all_pages_of_the_outbox(self, site: Site, scene: Scene):
        looked_at = {address(site, scene).partition("?")[0] for address in PAGES.values()}

        assert {page.url for page in OUTBOX_PAGES} <= looked_at
