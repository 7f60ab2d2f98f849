"""`make up` in a fresh copy of the project, and a browser whose clicks are counted.

A row uses it as a new user does: by the printed banner, by pages, and by saving files.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from tests.browser.visitor import READY, go_to_checkout, place, sign_up
from tests.mutants.trial import ROOT, copied_tree
from tests.processes import NOTHING_GIVEN, Running, eventually

#: Seconds. Reaching them is a failure, and no figure.
CEILING = 300.0
#: The programs that a change of the code restarts.
PROGRAMS = ("web", "relay", "worker", "beat")
#: Variables of a `make bench` around this one, and one that would slow each start by a compilation.
_UNSET = dict.fromkeys(
    ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHONDONTWRITEBYTECODE", "OUTBOX"]
)
_OF_HANDLER = """
FROM outbox_subscription s JOIN outbox_delivery d ON d.subscription_id = s.id
{} WHERE s.handler = ?
"""
_FIRST_FAILURE = "SELECT min(a.ended_at)" + _OF_HANDLER.format(
    "JOIN outbox_attempt a ON a.delivery_id = d.id"
)
_NOT_DONE = "SELECT count(*)" + _OF_HANDLER.format("") + "AND d.state <> 'done'"


class FreshShop:
    """A running `make up` with the browser windows of a customer and of staff.

    Attributes:
        folder: the copy of the project.
        began: `time.monotonic()` of the command.
    """

    def __init__(self, folder: Path, browser: Browser) -> None:
        self.folder, self._browser = folder, browser
        self.began = time.monotonic()
        environment = {**NOTHING_GIVEN, **_UNSET, "SHOP_LOCAL_DIR": None}
        command = ["make", "up", "ARGS=--port 0"]
        self.up = Running(command, environment=environment, folder=folder)

    def close(self) -> None:
        """Stop all programs."""
        self.up.end_for_sure()

    def wait_for_banner(self) -> None:
        """Wait until the next steps are printed."""
        self.url = self.up.says(r"(http://127\.0\.0\.1:\d+)/admin/", within=CEILING)[1]
        self.port = urlsplit(self.url).port or 0
        self.up.says("^Ctrl-C stops everything", within=CEILING)

    def window(self) -> Page:
        """Return a page in a browser window of its own."""
        page = self._browser.new_context(base_url=self.url).new_page()
        page.set_default_timeout(CEILING * 1000)
        return page

    def customer(self) -> Page:
        """Return the page of a new customer, who has signed up."""
        page = self.window()
        sign_up(page)
        return page

    def staff(self) -> Page:
        """Return the overview in a window of the superuser, with the password of the banner."""
        page = self.window()
        page.goto("/admin/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(self.up.says(r"user admin, password (\S+)\)")[1])
        page.get_by_role("button", name="Log in").click()
        page.goto("/admin/outbox/minute/")
        return page

    def save(self, file: str, text: str) -> float:
        """Replace a file of the project; return `time.monotonic()` of the save."""
        path = self.folder / file
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(path)
        return time.monotonic()

    def restarts(self) -> int:
        """Return how often all programs were restarted."""
        return min(self._lines(rf"up +\| {name} is ready again") for name in PROGRAMS)

    def wait_for_restart(self, before: int) -> None:
        """Wait until all programs run new code again."""
        eventually(lambda: self.restarts() > before, "all are restarted", within=CEILING)

    def first_failure(self, handler: str) -> float:
        """Return `time.time()` at the end of the first failed attempt of a handler."""
        ended: str = self._value(_FIRST_FAILURE, handler)
        return datetime.fromisoformat(ended).replace(tzinfo=UTC).timestamp()

    def not_done(self, handler: str) -> int:
        """Return the number of deliveries of a handler that are not done."""
        return int(self._value(_NOT_DONE, handler))

    def _value(self, statement: str, handler: str) -> Any:
        path = f"file:{self.folder / '.local' / 'db.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=30)) as database:
            return database.execute(statement, [handler]).fetchone()[0]

    def _lines(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, line)) for line in list(self.up.lines))


@contextmanager
def fresh_copy() -> Iterator[Path]:
    """Yield a copy of the project that has the packages of this one installed."""
    with copied_tree() as copy:
        (copy / ".venv").symlink_to(ROOT / ".venv")
        os.utime(copy / "requirements.txt", (0, 0))  # so that `make` does not install them again
        yield copy


@contextmanager
def fresh_shop(browser: Browser) -> Iterator[FreshShop]:
    """Yield a shop whose start has just begun; stop it afterwards."""
    with fresh_copy() as copy:
        shop = FreshShop(copy, browser)
        try:
            yield shop
        except BaseException:
            print("\n".join(shop.up.lines[-60:]), flush=True)
            raise
        finally:
            shop.close()


def order(page: Page) -> float:
    """Fill the basket, and place an order; return `time.time()` of the last click."""
    go_to_checkout(page)
    clicked = time.time()
    place(page)
    return clicked


def wait_for_story(page: Page) -> None:
    """Wait until the page shows that the order is ready to ship, and all of its events done."""
    page.get_by_text(READY).wait_for()
    all_done = re.compile(r"\d+ events, (\d+) handler calls: \1 done\.")
    page.get_by_text(all_done).wait_for()
