"""The map of the shop, and of a project with two hundred handlers."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.scene import Scene
from tests.browser.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

MAP = "/admin/outbox/subscription/map/"
HANDLERS = "/admin/outbox/subscription/handlers/"
#: As another project's deployment stores them: its code is not loaded here.
_MANY = """
from itertools import cycle
from outbox.models import Subscription
known = list(Subscription.objects.filter(active=True).exclude(event__contains="*"))
for number, row in zip(range(200), cycle(known)):
    row.pk, row.handler, row.queue = None, f"crates{number % 20}.weigh_crate_{number}", "crates"
    row.save(force_insert=True)
"""
_NONE = """
from outbox.models import Subscription
Subscription.objects.filter(queue="crates").delete()
"""
_CROSSINGS = """
from outbox.admin.event_map import network
from outbox.drawing.map import arranged
found = network()
print(arranged(found).crossings, len(found.arrows) + len(found.emissions))
"""


class TestTheMapOfTheShop:
    def test_has_few_crossings(self, site: Site, scene: Scene):
        """The lines depend on what the site has emitted, so the bound is a share of them.

        About 6 as written. In two columns by name, the subscriptions alone had 292.
        """
        crossings, lines = map(int, site.run(_CROSSINGS).split()[-2:])

        assert crossings <= lines / 4

    def test_shows_one_process_without_javascript(
        self, context: BrowserContext, page: Page, site: Site, scene: Scene
    ):
        state = context.storage_state()
        browser = context.browser
        assert browser is not None
        plain = browser.new_context(
            base_url=site.url, storage_state=state, java_script_enabled=False
        )
        try:
            page = plain.new_page()
            page.goto(MAP)
            whole = page.locator(".outbox-map .outbox-box").count()
            page.locator(".outbox-map a", has_text="OrderShipped").click()

            expect(page.get_by_role("status")).to_contain_text("Shown: orders.OrderShipped")
            page.wait_for_load_state()  # the map comes after this text
            assert 0 < page.locator(".outbox-map .outbox-box").count() < whole / 2
        finally:
            plain.close()

    def test_marks_what_is_dead_in_red_by_shape_and_word(self, page: Page, scene: Scene):
        page.goto(MAP)

        box = page.locator(".outbox-map .outbox-box.outbox-failing").first
        red = page.evaluate(
            "getComputedStyle(document.documentElement).getPropertyValue('--error-fg')"
        )
        assert red
        assert box.evaluate("(box) => getComputedStyle(box).strokeWidth") == "2.5px"
        expect(page.locator(".outbox-map")).to_contain_text("notifications ✕")


class TestTwoHundredHandlers:
    def test_are_readable_on_the_map_and_fewer_in_focus(self, page: Page, site: Site, scene: Scene):
        site.run(_MANY)
        try:
            page.goto(MAP)
            texts = page.locator(".outbox-map text")
            assert page.locator(".outbox-map .outbox-box").count() > 220
            sizes = texts.evaluate_all(
                "(all) => [...new Set(all.map((one) => getComputedStyle(one).fontSize))]"
            )
            assert min(float(size.removesuffix("px")) for size in sizes) >= 11
            drawn = page.locator(".outbox-map svg")
            box = drawn.bounding_box()
            assert box is not None
            assert box["width"] == pytest.approx(float(drawn.get_attribute("width") or 0), abs=1)

            page.get_by_role("link", name="crates7", exact=True).first.click()

            assert page.locator(".outbox-map .outbox-box").count() < 60
        finally:
            site.run(_NONE)


class TestThePageOfHandlers:
    def test_opens_idle_handlers_by_the_keyboard(self, page: Page, site: Site, scene: Scene):
        page.goto(HANDLERS)
        fold = page.locator("details:has(summary:has-text('idle'))").first

        fold.locator("summary").focus()
        page.keyboard.press("Enter")

        expect(fold.get_by_role("button").first).to_be_visible()
