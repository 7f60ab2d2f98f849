"""First minutes: `make up`, one's own order, a handler that raises, its repair, a saved file.

In Chromium, in a fresh copy of the project with the packages installed. Only the typing and the
reading of a person are missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page

from benchmarks.fresh_shop import (
    CEILING,
    FreshShop,
    fresh_copy,
    fresh_shop,
    order,
    wait_for_story,
)
from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result
from benchmarks.row import Row
from benchmarks.visits import visited
from tests.browser import chromium
from tests.browser.visitor import Hand, open_failures, retry_failures
from tests.processes import eventually

HANDLERS, URLS = "notifications/handlers.py", "shop/urls.py"
OVERVIEW = "/admin/outbox/minute/"
PER_SECOND = 10

PAGE, SAVED = "/", "/saved/"
INSTALL_CEILING = 1800
#: Seconds of the load before a save and after the restart.
QUIET_SECONDS = 1.0

LOAD = "load average"
INSTALL = "make install"
BANNER = "make up: the banner"
STORY = "make up: the story of an order"
SEEN_AFTER_FAILURE = "exception on the overview, from the first failed attempt"
SEEN_AFTER_ORDER = "exception on the overview, from the order"
CLICKS_TO_LINE = "from the overview to exception and line"
CLICKS_TO_REPAIR = "from the overview to a successful retry"
RELOAD = "new code answers, from the save"
LONGEST = "longest request during a reload"
REFUSED = "requests without an answer during a reload"
RESTART = "all programs run the new code, from the save"

UNITS = {LOAD: "", CLICKS_TO_LINE: "clicks", CLICKS_TO_REPAIR: "clicks", REFUSED: "requests"}
TARGETS = {
    STORY: 90,
    SEEN_AFTER_FAILURE: 10,
    SEEN_AFTER_ORDER: 10,
    CLICKS_TO_LINE: 1,
    CLICKS_TO_REPAIR: 3,
    RELOAD: 3,
    LONGEST: 3,
    REFUSED: 0,
}

#: A handler that fails once an hour until its code is repaired, or is dead at once.
_HANDLER = """

from outbox import Dead, Retry


@subscribe("orders.OrderPlaced", rules={{ZeroDivisionError: {rule}}})
def {name}(order_id: UUID) -> None:
    1 / {divisor}
"""
_FAILING, _DEAD = ("count_points", "Retry(after=3600)"), ("count_visits", "Dead()")
#: The word of the page of the new code; a save changes it.
_PAGE = """
from django.http import HttpResponse

urlpatterns += [path("saved/", lambda request: HttpResponse("{word}"))]
"""


@dataclass
class Found:
    """The values of each figure, by its name."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        """Add the value of one repeat, and print it: a run takes minutes."""
        self.values[name].append(value)
        print(f"{name}: {value:.3g} {UNITS.get(name, 's')}", flush=True)


def measure(_ground: Ground, quick: bool) -> Result:
    """Begin several times from nothing; reload several times in each."""
    path = chromium.find()
    if path is None:
        raise RuntimeError(chromium.NO_BROWSER)
    found, repeats, reloads = Found(), *((1, 2) if quick else (3, 4))
    if not quick:
        found.add(INSTALL, _install())
    with chromium.launched(path) as browser:
        for _repeat in range(repeats):
            _begin(browser, found, reloads)
    return _result(found.values)


def _install() -> float:
    """Return the seconds of `make install` in a copy without packages."""
    with fresh_copy() as copy:
        (copy / ".venv").unlink()
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        began = time.monotonic()
        command = ["/usr/bin/env", "make", "install"]
        subprocess.run(command, cwd=copy, env=environment, check=True, timeout=INSTALL_CEILING)
        return time.monotonic() - began


def _begin(browser: Browser, found: Found, reloads: int) -> None:
    """Start the shop, and take all figures of it."""
    found.add(LOAD, os.getloadavg()[0])
    with fresh_shop(browser) as shop:
        shop.wait_for_banner()
        found.add(BANNER, time.monotonic() - shop.began)
        page = shop.customer()
        order(page)
        wait_for_story(page)
        found.add(STORY, time.monotonic() - shop.began)
        for number in range(reloads):
            _reload(shop, found, word=f"word {number}")
        for kind in (_FAILING, _DEAD):
            _break_and_repair(shop, found, *kind)


def _reload(shop: FreshShop, found: Found, *, word: str) -> None:
    """Save a page while others are requested; take the time until its new text is sent."""
    before, text = shop.restarts(), (shop.folder / URLS).read_text()
    with visited(shop.port, *(PAGE, SAVED), per_second=PER_SECOND) as visits:
        time.sleep(QUIET_SECONDS)
        saved = shop.save(URLS, text + _PAGE.format(word=word))
        eventually(lambda: visits.first(SAVED, word), f"{word} is sent", within=CEILING)
        shop.wait_for_restart(before)
        found.add(RESTART, time.monotonic() - saved)
        time.sleep(QUIET_SECONDS)
    if answer := visits.first(SAVED, word):
        found.add(RELOAD, answer.ended - saved)
    found.add(LONGEST, visits.longest(PAGE))
    found.add(REFUSED, visits.refused(PAGE))
    shop.save(URLS, text)
    shop.wait_for_restart(before + 1)


def _break_and_repair(shop: FreshShop, found: Found, name: str, rule: str) -> None:
    """Save a handler that raises, find its exception, repair it, and retry the delivery."""
    text, handler = (shop.folder / HANDLERS).read_text(), f"notifications.{name}"
    _save_and_wait(shop, text + _HANDLER.format(name=name, rule=rule, divisor=0))
    overview = shop.staff()
    _find(shop, found, overview, handler)
    _save_and_wait(shop, text + _HANDLER.format(name=name, rule=rule, divisor=1))
    overview.goto(OVERVIEW)
    hand = Hand(overview)
    retry_failures(hand, handler, reason="The code is repaired.")
    found.add(CLICKS_TO_REPAIR, hand.clicks)
    eventually(lambda: not shop.not_done(handler), f"{handler} is done", within=CEILING)
    overview.goto(OVERVIEW)
    if overview.locator("#outbox-overview li").filter(has_text=handler).count():
        raise RuntimeError(f"{handler} is still on the overview after its repair.")


def _save_and_wait(shop: FreshShop, text: str) -> None:
    before = shop.restarts()
    shop.save(HANDLERS, text)
    shop.wait_for_restart(before)


def _find(shop: FreshShop, found: Found, overview: Page, handler: str) -> None:
    """Place an order; wait for the exception on the open overview, and click to its line."""
    placed = order(shop.customer())
    rows = overview.locator("#outbox-overview li").filter(has_text=handler)
    rows.filter(has_text="ZeroDivisionError").first.wait_for()
    seen = time.time()
    found.add(SEEN_AFTER_FAILURE, seen - shop.first_failure(handler))
    found.add(SEEN_AFTER_ORDER, seen - placed)
    hand = Hand(overview)
    open_failures(hand, handler)
    line = rf"notifications\.handlers:\d+ {handler.rpartition('.')[2]}"
    overview.get_by_text(re.compile(line)).first.wait_for()
    found.add(CLICKS_TO_LINE, hand.clicks)


def _result(values: Mapping[str, Sequence[float]]) -> Result:
    return Result(
        [Figure(name, of, UNITS.get(name, "s")) for name, of in values.items()],
        [Ratio(name, max(values[name]), at_most=most) for name, most in TARGETS.items()],
        [
            "The slowest repeat counts for each target. The first figure is the load average of "
            f"the minute before each start. Reloads are measured beside {PER_SECOND} GET requests "
            "a second. A retry also takes a typed reason."
        ],
    )


ROW = Row(
    "first_minutes",
    "from `make up` to one's own order; a handler that raises, its repair; a saved file",
    "story 90 s; exception 10 s and one click; repair three clicks; reload and requests 3 s",
    measure,
    is_extra=True,
)
