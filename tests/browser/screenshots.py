"""`make screenshots`: pictures of storefront and monitor for the docs, from a shop that runs.

All of them, or those that are named: `make screenshots ARGS="overview map"`. Each is taken in
English and in Japanese.

Orders, dead letters and the pause are real. Only the charts' past is made up, from the minutes that
were counted: nobody waits an hour for a picture.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, StorageState, expect

from shop.demo.scenarios import SCENARIOS
from tests.browser import chromium
from tests.browser.pages import PAGES
from tests.browser.palette import reduced
from tests.browser.pictures import LANGUAGES, MONITOR, ROOT, SHOP, Picture
from tests.browser.scene import Scene, furnish
from tests.browser.site import CEILING, Site, running_site
from tests.browser.visitor import go_to_checkout, sign_up
from tests.processes import eventually

MOST_BYTES = 150_000
#: Milliseconds for a page; reaching them is a failure.
PATIENCE = 120_000
NO_FONT = "The browser has no Japanese font. Install one (Debian and Ubuntu: fonts-noto-cjk)."

#: More of what the demo orders, so that each page has something to show.
MORE = tuple(wish for chapter in SCENARIOS for wish in chapter.specs if wish.cancel_at is None)[:12]

#: Without a font, each character is the same box.
_HAS_FONT = """() => {
    const context = document.createElement("canvas").getContext("2d");
    const [one, two] = ["\\u65e5", "\\u672c"].map((letter) => {
        context.clearRect(0, 0, 40, 40);
        context.font = "30px sans-serif";
        context.fillText(letter, 0, 30);
        return context.getImageData(0, 0, 40, 40).data.join();
    });
    return one !== two;
}"""
#: A handler that fails for as long as one looks: the mail server is away, the backoff is long.
_FAILING = "notifications.announce_shipping"
_SHIP = f"""
from orders.models import Order
from orders.services import ship_order
from outbox.models import Subscription
rows = Subscription.objects.filter(handler="{_FAILING}")
rows.update(attempts=45, backoff_base=3600, backoff_cap=3600)
for order in Order.objects.filter(status="ready_to_ship").exclude(pk="{{stuck}}")[:2]:
    ship_order(order_id=order.pk, carrier="Yamato", tracking_number="4711", by="user:1")
"""
_FAILED = (
    "SELECT count(*) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id"
    " WHERE s.handler = ? AND d.state = 'pending' AND d.attempts = 1"
)
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


def main() -> int:
    names = set(sys.argv[1:])
    monitor, shop = (
        [one for one in group if not names or one.name in names] for group in (MONITOR, SHOP)
    )
    path = chromium.find()
    if path is None:
        sys.stderr.write(chromium.NO_BROWSER + "\n")
        return 1
    if not _has_font(path):
        sys.stderr.write(NO_FONT + "\n")
        return 1
    if shop:
        _take_shop(path, shop)
    if monitor:
        _take_monitor(path, monitor)
    return 0


def _has_font(path: str) -> bool:
    with chromium.launched(path) as browser:
        return bool(browser.new_page().evaluate(_HAS_FONT))


def _take_monitor(path: str, wanted: Sequence[Picture]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="shop-pictures-") as folder,
        running_site(Path(folder)) as site,
    ):
        scene = _furnish(site)
        with chromium.launched(path) as browser:
            staff = _signed_in(browser, site)
            for picture in wanted:
                for language in LANGUAGES:
                    with _window(browser, site, picture, language, staff) as page:
                        _show(page, PAGES[picture.page](site, scene), picture)
                        _save(page, picture, language)


def _take_shop(path: str, wanted: Sequence[Picture]) -> None:
    """Take pages of the storefront, from a shop with the attempts of production."""
    with (
        tempfile.TemporaryDirectory(prefix="shop-pictures-") as folder,
        running_site(Path(folder), OUTBOX="{}") as site,
        site.mail_server(),
        chromium.launched(path) as browser,
    ):
        for picture in wanted:
            for language in LANGUAGES:
                with _window(browser, site, picture, "en") as page:
                    _order(page, language)
                    _save(page, picture, language)
                    expect(page.locator("#order-status .failed, #order-status .now")).to_have_count(
                        0
                    )


def _furnish(site: Site) -> Scene:
    with site.mail_server():
        for wish in MORE:
            site.place(wish)
    scene = furnish(site)
    site.run(_SHIP.format(stuck=scene.stuck.id))
    eventually(lambda: site.value(_FAILED, _FAILING) == 2, "both have failed", within=CEILING)
    site.run(_PAST)
    return scene


def _signed_in(browser: Browser, site: Site) -> StorageState:
    """Return the cookies of the superuser. The login page is in English."""
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    site.log_in(page)
    # The sidebar of all models is Django's, and takes a quarter of the picture.
    page.evaluate("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    state = context.storage_state()
    context.close()
    return state


def _show(page: Page, url: str, picture: Picture) -> None:
    page.goto(url)
    if picture.press:
        page.locator(f'button[name="action"][value="{picture.press}"]').first.click()
        page.wait_for_load_state()


def _order(page: Page, language: str) -> None:
    """Show the page of an order that was placed in this language while the bank was down."""
    sign_up(page)
    go_to_checkout(page)
    page.get_by_role("button", name="Bank down for 30 s").click()
    page.get_by_text("The bank is down.").wait_for()
    if language != "en":
        page.locator(f'.language-switch [value="{language}"]').click()
    expect(page.locator("html")).to_have_attribute("lang", language)
    page.locator("form.stacked button").click()
    drawer = page.locator(".drawer-events")
    drawer.get_by_text("inventory.StockReserved").wait_for()
    drawer.locator(".drawer-call.failing").first.wait_for()


@contextmanager
def _window(
    browser: Browser,
    site: Site,
    picture: Picture,
    language: str,
    state: StorageState | None = None,
) -> Iterator[Page]:
    width, height = picture.size
    context = browser.new_context(
        base_url=site.url,
        locale=language,
        storage_state=state,
        viewport={"width": width, "height": height},
        color_scheme="dark" if picture.scheme == "dark" else "light",
    )
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def _save(page: Page, picture: Picture, language: str) -> None:
    """Write the picture's file, in few colours; fail if it is too large for a page."""
    width, height = picture.size
    page.set_viewport_size({"width": width, "height": picture.height or height})
    blank = page.context.new_page()
    content = reduced(blank, page.screenshot(full_page=not picture.height))
    blank.close()
    file = picture.file(language)
    sys.stdout.write(f"{file.relative_to(ROOT)}  {len(content) // 1000} kB\n")
    sys.stdout.flush()
    if len(content) > MOST_BYTES:
        raise SystemExit(
            f"{file} is too large for a page: {len(content)} bytes. Make it less high."
        )
    file.write_bytes(content)


if __name__ == "__main__":
    expect.set_options(timeout=PATIENCE)
    sys.exit(main())
