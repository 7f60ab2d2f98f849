"""Tasks of staff in the admin: follow an order, retry dead letters, pause a handler."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.keyboard import press, tab_to
from tests.browser.page_checks import BrowserErrors
from tests.browser.scene import Scene
from tests.browser.site import TEA, Site
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

HANDLERS = "/admin/outbox/subscription/handlers/"
DEAD = "/admin/outbox/delivery/dead/"


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not complain of anything, however often it renews itself."""
    page = context.new_page()
    errors = BrowserErrors(page)
    yield page
    assert errors.found == []


def row_of(page: Page, handler: str) -> Locator:
    return page.get_by_role("article", name=handler, exact=True)


def change(page: Page, verb: str, handler: str, *, reason: str) -> None:
    """Pause or resume a handler, by keyboard alone."""
    page.goto(HANDLERS)
    press(page, page.get_by_role("button", name=f"{verb} {handler}"))
    if verb == "Pause":
        # The question has the focus already.
        expect(page.get_by_label("Reason")).to_be_focused()
        page.keyboard.type(reason)
        press(page, page.locator("input[type=submit].default"))
    expect(row_of(page, handler)).to_be_visible()


class TestAnOrderThatIsPlacedThroughTheApi:
    def test_is_seen_to_complete_on_its_page_without_a_reload(
        self, context: BrowserContext, page: Page, site: Site
    ):
        held, other = "orders.record_stock_reserved", context.new_page()
        change(other, "Pause", held, reason="To have time to look.")
        order = site.place(TEA)
        page.goto(f"/admin/orders/order/{order.id}/change/")
        timeline = page.get_by_role("region", name=re.compile(f"Timeline of {order.id}"))
        expect(timeline.locator("[role=status]")).to_contain_text("Held: 1 of")
        page.evaluate("window.hasNotBeenLoadedAgain = true")

        change(other, "Resume", held, reason="")

        expect(timeline.locator("[role=status]")).to_contain_text("Done:")
        expect(timeline.get_by_text("Order ready to ship")).to_be_visible()
        assert page.evaluate("window.hasNotBeenLoadedAgain") is True
        assert site.customer.status_of(order) == "ready_to_ship"

    def test_keeps_opened_sections_open_during_refreshes(self, page: Page, site: Site):
        order = site.place(TEA)
        page.goto(f"/admin/outbox/event/timeline/?q={order.id}")
        table = page.locator("details#outbox-table")
        table.locator("summary").click()

        expect(page.locator("#outbox-timeline [role=status]")).to_contain_text("Done:")

        expect(table).to_have_attribute("open", "")


class TestADeadOrder:
    """Its repair takes one search and one click."""

    def test_is_found_by_its_reference_and_retried_at_the_top_of_its_page(
        self, page: Page, scene: Scene
    ):
        page.goto("/admin/")

        page.get_by_placeholder("Id, reference or e-mail address").fill(scene.stuck.reference)
        page.get_by_role("button", name="Search").click()
        trouble = page.locator("#outbox-condition")
        expect(trouble).to_contain_text("ConnectionRefusedError")
        box = trouble.bounding_box()
        assert box is not None
        assert box["y"] < 400
        link = trouble.get_by_role("link", name="attempts and repair").inner_text()
        page.get_by_role("button", name="Retry now").click()

        expect(page.get_by_text("1 delivery is due now.")).to_be_visible()
        expect(page.locator("#outbox-condition")).not_to_contain_text(link)


class TestTheOverview:
    def test_updates_its_counts_without_a_reload(self, page: Page, site: Site):
        page.goto("/admin/outbox/minute/")
        at_first = self.events(page)

        site.place(TEA)

        eventually(lambda: self.events(page) >= at_first + 8, "the chart has the order's events")

    @staticmethod
    def events(page: Page) -> int:
        """How many events of the last hour its first chart shows."""
        tips = page.locator("#outbox-overview svg").first.locator("title").all_text_contents()
        return sum(int(found[1]) for tip in tips if (found := re.search(r"events: (\d+)", tip)))


class TestADeadGroup:
    def test_is_retried_by_keyboard_and_disappears(self, page: Page, site: Site):
        handler = "notifications.acknowledge_order"
        before = site.deliveries("dead", handler)
        assert before > 0
        page.goto(f"{DEAD}?handler={handler}")
        group = page.get_by_role("region", name=re.compile(f"{handler}: Conn"))

        press(page, group.get_by_role("button", name="Retry now"))
        expect(page.get_by_label("Reason")).to_be_focused()
        page.keyboard.type("The mail server is back.")
        press(page, page.locator("input[type=submit].default"))

        expect(page.get_by_role("progressbar")).to_have_attribute("value", str(before))
        page.goto(f"{DEAD}?handler={handler}")
        expect(page.get_by_text("No failing or dead delivery matches.")).to_be_visible()
        site.wait_until_settled()
        assert site.deliveries("dead", handler) == 0

    def test_shows_the_operation_afterwards(self, page: Page):
        page.goto(DEAD)

        expect(page.get_by_role("region", name="Recent operations")).to_contain_text(
            "The mail server is back."
        )


class TestAHandler:
    handler = "notifications.announce_payment"

    def test_is_seen_paused_its_lag_growing_and_resumed_without_a_reload(
        self, context: BrowserContext, page: Page, site: Site
    ):
        other, row = context.new_page(), row_of(page, self.handler)
        site.wait_until_settled()  # deliveries of earlier tests would be parked, too
        page.goto(HANDLERS)
        page.evaluate("window.hasNotBeenLoadedAgain = true")

        change(other, "Pause", self.handler, reason="The texts are being rewritten.")
        expect(row).to_contain_text("paused")
        expect(row).to_contain_text("The texts are being rewritten")
        site.place(TEA)
        expect(row).to_contain_text("1 parked")
        at_first = self.lag(row)
        eventually(lambda: self.lag(row) > at_first, "the lag grows")
        site.place(TEA)
        expect(row).to_contain_text("2 parked")
        change(other, "Resume", self.handler, reason="")
        expect(row).to_contain_text("running")
        expect(row).not_to_contain_text("parked")

        assert page.evaluate("window.hasNotBeenLoadedAgain") is True

    def test_keeps_the_keyboard_focus(self, page: Page, site: Site):
        row = row_of(page, "orders.record_stock_reserved")
        for wanted in (row.get_by_role("link").first, row.get_by_role("button")):
            page.goto(HANDLERS)
            tab_to(page, wanted)
            page.evaluate("document.getElementById('outbox-handlers').dataset.old = 'yes'")

            # What is news takes the place of what was there.
            site.place(TEA)
            expect(page.locator("[data-old]")).to_have_count(0)

            expect(wanted).to_be_focused()

    @staticmethod
    def lag(row: Locator) -> float:
        """The age of the oldest that is owed, in seconds."""
        text = row.locator("dd").nth(5).inner_text()
        units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
        parts = re.findall(r"([\d.]+) (ms|s|min|h)\b", text)
        assert parts, text
        return sum(float(number) * units[unit] for number, unit in parts)


class TestTheMermaidText:
    def test_is_copied_by_its_button(self, context: BrowserContext, page: Page, scene: Scene):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/admin/outbox/event/timeline/?q={scene.well.id}")
        page.locator("details#outbox-mermaid > summary").click()

        page.get_by_role("button", name="Copy").click()

        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("sequenceDiagram")

    def test_is_copied_and_selected_over_plain_http(self, page: Page, scene: Scene):
        # The address of the tests is that of this machine, which browsers trust also over HTTP.
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.goto(f"/admin/outbox/event/timeline/?q={scene.well.id}")
        page.locator("details#outbox-mermaid > summary").click()

        page.get_by_role("button", name="Copy").click()

        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("getSelection().toString()").startswith("sequenceDiagram")
