"""The site of `make docs`, opened from the disk in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.docs.site import build


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    assert build(folder).returncode == 0
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(offline=True)
    yield context.new_page()
    context.close()


class TestTheSiteOnTheDisk:
    def test_is_searched_without_a_server(self, page: Page, documentation: Path):
        reports: list[str] = []
        requested: list[str] = []
        page.on("console", lambda message: reports.append(message.text))
        page.on("pageerror", lambda error: reports.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))

        page.goto((documentation / "index.html").as_uri())
        page.get_by_placeholder("Search").fill("idempotency")
        page.get_by_placeholder("Search").press("Enter")
        page.get_by_role("link", name="Call an external system safely").last.click()

        assert page.title().startswith("Call an external system safely")
        assert reports == []
        assert [url for url in requested if not url.startswith("file:")] == []
