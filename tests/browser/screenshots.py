"""`make screenshots`: pictures of storefront and monitor for README and docs, from a running shop.

All of them, or those that are named: `make screenshots ARGS="overview map"`.

Orders, dead letters and the pause are real. Only the charts' past is made up, from the minutes that
were counted: nobody waits an hour for a picture.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from shop.demo.scenarios import SCENARIOS
from tests.browser import chromium
from tests.browser.pages import PAGES
from tests.browser.scene import Scene, furnish
from tests.browser.site import ROOT, Site, running_site
from tests.browser.visitor import READY, go_to_checkout, place, sign_up

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 250_000
WIDE, PHONE = (1200, 800), (390, 844)

#: More of what the demo orders, so that each page has something to show.
MORE = tuple(wish for chapter in SCENARIOS for wish in chapter.specs if wish.cancel_at is None)[:12]

_PAST = """
from datetime import timedelta
from math import sin
from django.db.models import Sum
from outbox.models import Minute
rows = Minute.objects.filter(handler="")
last = rows.latest("minute").minute
counts = ["events", "done", *(f"lag_{n}" for n in range(12))]
sums = rows.aggregate(**{name: Sum(name) for name in counts})
rows.filter(minute__lt=last).delete()
made = []
for ago in range(1, 24 * 60):
    busy = 0.3 + 0.15 * sin(ago / 190) + 0.08 * sin(ago / 11) + 0.05 * sin(ago * 1.7)
    row = Minute(handler="", minute=last - timedelta(minutes=ago))
    for number, name in enumerate(counts):
        sway = 1 + 0.4 * sin(ago / 45 + number) if number > 1 else 1
        setattr(row, name, round(busy * sway * sums[name]))
    row.failed = 3 if ago % 97 in (5, 6) else ago % 13 == 0
    made.append(row)
Minute.objects.bulk_create(made, ignore_conflicts=True)
"""


@dataclass(frozen=True)
class Picture:
    """One file in docs/images.

    Attributes:
        name: of the file, without its ending.
        page: which of `PAGES`.
        height: pixels, or 0 for the whole page.
        click: a button to press first.
    """

    name: str
    page: str
    height: int = 0
    size: tuple[int, int] = WIDE
    scheme: str = "light"
    click: str = ""


PICTURES = (
    Picture("overview", "the overview"),
    Picture("overview-dark", "the overview", scheme="dark"),
    Picture("overview-phone", "the overview", size=PHONE, height=1500),
    Picture("timeline", "the timeline of a stuck order", size=(1200, 1100)),
    Picture("timeline-phone", "the timeline of an order", size=PHONE, height=1500),
    Picture("events", "the events", height=800),
    Picture("event", "an event"),
    Picture("dead-letters", "the dead letters"),
    Picture("dry-run", "the dead letters", height=780, click="Retry now: all of these"),
    Picture("delivery", "a dead delivery"),
    Picture("handlers", "the handlers", height=1000),
    Picture("map", "the map"),
    Picture("blocked-keys", "the blocked keys", height=360),
    Picture("processes", "the orders under way"),
    Picture("operation", "an operation", height=720),
    Picture("health-checks", "the health checks", height=720),
    Picture("sources", "the sources", height=500),
)

#: Pictures of the page of an order in the storefront, with the development drawer.
SHOPS = (
    Picture("storefront", "", height=900, size=(1280, 900)),
    Picture("storefront-phone", "", size=PHONE, height=1500, scheme="dark"),
)


def main() -> int:
    names = sys.argv[1:]
    shops = [shot for shot in SHOPS if not names or shot.name in names]
    wanted = [picture for picture in PICTURES if not names or picture.name in names]
    path = chromium.find()
    if path is None:
        sys.stderr.write(chromium.NO_BROWSER + "\n")
        return 1
    if shops:
        _take_orders(path, shops)
    if wanted:
        _take_monitor(path, wanted)
    return 0


def _take_monitor(path: str, wanted: Sequence[Picture]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="shop-pictures-") as folder,
        running_site(Path(folder)) as site,
    ):
        scene = _furnish(site)
        with chromium.launched(path) as browser:
            for picture in wanted:
                _take(browser, site, scene, picture)


def _take_orders(path: str, wanted: Sequence[Picture]) -> None:
    """Take pages of the storefront, from a shop with the attempts of production."""
    with (
        tempfile.TemporaryDirectory(prefix="shop-pictures-") as folder,
        running_site(Path(folder), OUTBOX="{}") as site,
        site.mail_server(),
        chromium.launched(path) as browser,
    ):
        for picture in wanted:
            _take_order(browser, site, picture)


def _furnish(site: Site) -> Scene:
    with site.mail_server():
        for wish in MORE:
            site.place(wish)
    scene = furnish(site)
    site.run(_PAST)
    return scene


def _take(browser: Browser, site: Site, scene: Scene, picture: Picture) -> None:
    with _window(browser, site, picture) as page:
        page.goto(PAGES[picture.page](site, scene))
        if picture.click:
            page.get_by_role("button", name=picture.click, exact=True).click()
            page.wait_for_load_state()
        file = IMAGES / f"{picture.name}.png"
        width, height = picture.size
        page.set_viewport_size({"width": width, "height": picture.height or height})
        page.screenshot(path=file, full_page=not picture.height)
    _make_small(file)


def _take_order(browser: Browser, site: Site, picture: Picture) -> None:
    """Take the page of an order that was placed while the bank was down."""
    width, height = picture.size
    context = browser.new_context(
        base_url=site.url,
        viewport={"width": width, "height": picture.height or height},
        color_scheme="dark" if picture.scheme == "dark" else "light",
    )
    page = context.new_page()
    sign_up(page)
    go_to_checkout(page)
    page.get_by_role("button", name="Bank down for 30 s").click()
    page.get_by_text("The bank is down.").wait_for()
    place(page)
    drawer = page.get_by_role("complementary", name="Behind the scenes")
    drawer.get_by_text("inventory.StockReserved").wait_for()
    drawer.get_by_text("failed 2 times").wait_for()
    file = IMAGES / f"{picture.name}.png"
    page.screenshot(path=file)
    page.get_by_text(READY).wait_for(timeout=120_000)
    context.close()
    _make_small(file)


@contextmanager
def _window(browser: Browser, site: Site, picture: Picture) -> Iterator[Page]:
    width, height = picture.size
    context = browser.new_context(
        base_url=site.url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if picture.scheme == "dark" else "light",
    )
    # The sidebar of all models is Django's, and takes a quarter of the picture.
    context.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    page = context.new_page()
    site.log_in(page)
    try:
        yield page
    finally:
        context.close()


def _make_small(file: Path) -> None:
    """Take colours that nobody sees out, where pngquant is installed."""
    if tool := shutil.which("pngquant"):
        subprocess.run(
            [tool, "--force", "--ext", ".png", "--quality", "70-95", str(file)], check=True
        )
    size = file.stat().st_size
    sys.stdout.write(f"{file.relative_to(ROOT)}  {size // 1000} kB\n")
    if size > MOST_BYTES:
        raise SystemExit(f"{file} is too large for a page: {size} bytes. Install pngquant.")


if __name__ == "__main__":
    sys.exit(main())
