"""The system's Chromium, without a window. No browser is ever downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from shop.up.ports import HOST, free_port
from tests.processes import eventually
from tests.servers.server import listens

#: Set where a missing browser is a failure: `.ci/run` sets it after it has installed one.
MUST_RUN = "BROWSER_TESTS_MUST_RUN"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
NO_BROWSER = (
    "There is no Chromium on PATH, so no page was looked at: install it (Debian and Ubuntu: "
    "apt-get install chromium)."
)
FLAGS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find() -> str | None:
    """Return where the system has a Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def required() -> str:
    """Return where it is; without one, skip the test, or fail it where it must run."""
    if path := find():
        return path
    if os.environ.get(MUST_RUN):
        pytest.fail(NO_BROWSER, pytrace=False)
    pytest.skip(NO_BROWSER)


@contextmanager
def window_of_tabs(browser: Browser, path: str) -> Iterator[BrowserContext]:
    """Yield a window of one more Chromium, where the tab in front hides the others, as in life.

    Playwright makes each page of a context of its own believe that it is in front.
    """
    port, is_boxed = free_port(), os.geteuid() != 0
    flags = [*FLAGS, f"--remote-debugging-port={port}"]
    kind = browser.browser_type
    with closing(kind.launch(executable_path=path, args=flags, chromium_sandbox=is_boxed)):
        # It opens the port after the pipe by which Playwright knows that it runs.
        eventually(lambda: listens(HOST, port), "Chromium listens")
        attached = kind.connect_over_cdp(f"http://{HOST}:{port}", no_defaults=True)
        yield attached.contexts[0]


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """Yield a running Chromium. As root it cannot have a sandbox."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=FLAGS, chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield browser
        finally:
            browser.close()
