"""One shop and one browser for all of these tests; the last one closes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import chromium
from tests.browser.scene import Scene, furnish
from tests.browser.site import CEILING, Site, running_site

WIDE, PHONE = 1440, 390
#: A laptop, a tablet and a phone.
WIDTHS = 1280, 1024, PHONE
HEIGHT = 900


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """Let each expectation wait for a busy machine; Playwright's own limit is five seconds."""
    expect.set_options(timeout=CEILING * 1000)


@pytest.fixture(scope="session")
def browser_path() -> str:
    return chromium.required()


@pytest.fixture(scope="session")
def furnished(
    browser_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, Scene]]:
    """A shop with the data of the scene, and from then on with a mail server.

    Without a mail server, the orders of ten tests would open the breakers of the e-mail handlers,
    and deliveries of one test would wait for minutes in the next.
    """
    folder: Path = tmp_path_factory.mktemp("site")
    with running_site(folder, DJANGO_SETTINGS_MODULE="tests.browser.settings") as site:
        scene = furnish(site)
        with site.mail_server():
            yield site, scene


@pytest.fixture(scope="session")
def site(furnished: tuple[Site, Scene]) -> Site:
    return furnished[0]


@pytest.fixture(scope="session")
def scene(furnished: tuple[Site, Scene]) -> Scene:
    return furnished[1]


@pytest.fixture(scope="session")
def browser(browser_path: str) -> Iterator[Browser]:
    with chromium.launched(browser_path) as browser:
        yield browser


@pytest.fixture(scope="session")
def logged_in(browser: Browser, site: Site) -> str:
    """The cookies of the superuser, as a file that a new window may begin with."""
    context = browser.new_context(base_url=site.url)
    site.log_in(context.new_page())
    path = str(site.folder / "browser.json")
    context.storage_state(path=path)
    context.close()
    return path


@pytest.fixture
def context(browser: Browser, site: Site, logged_in: str) -> Iterator[BrowserContext]:
    """A window of a member of staff."""
    context = browser.new_context(
        base_url=site.url,
        storage_state=logged_in,
        viewport={"width": WIDE, "height": HEIGHT},
    )
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
