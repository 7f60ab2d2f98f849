"""A timeline of two hundred events, such as a busy key has after a year."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import HEIGHT, PHONE, WIDE
from tests.browser.layout_checks import cut_off
from tests.browser.page_checks import overflow
from tests.browser.scene import Scene
from tests.browser.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

EVENTS = 200
KEY = "a-busy-key"

_REPEAT = """
from datetime import timedelta
from itertools import cycle
from uuid import uuid4
from outbox.models import Delivery, Event
events = list(Event.objects.filter(key="{order}").order_by("seq").prefetch_related("deliveries"))
one, ids = uuid4(), dict()
for round, event in zip(range({events}), cycle(events)):
    owed, later = list(event.deliveries.all()), timedelta(seconds=3 * (round // len(events)))
    known, cause = event.id, ids.get(event.causation_id)
    copy = Event(**{{field.attname: getattr(event, field.attname) for field in Event._meta.fields}})
    copy.seq, copy.id, copy.key, copy.causation_id = None, uuid4(), "{key}", cause
    copy.correlation_id, copy.emitted_at = one, event.emitted_at + later
    Event.objects.bulk_create([copy])
    ids[known] = copy.id
    for delivery in owed:
        delivery.pk, delivery.event = None, copy
        for name in ("started_at", "settled_at"):
            if moment := getattr(delivery, name):
                setattr(delivery, name, moment + later)
    Delivery.objects.bulk_create(owed)
"""


@pytest.fixture(scope="session")
def long_story(site: Site, scene: Scene) -> str:
    """The address of a timeline in which an order's events are repeated."""
    site.run(_REPEAT.format(order=scene.well.id, events=EVENTS, key=KEY))
    return f"/admin/outbox/event/timeline/?q={KEY}"


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def page(page: Page, request: pytest.FixtureRequest, long_story: str) -> Page:
    page.set_viewport_size({"width": request.param, "height": HEIGHT})
    page.goto(long_story)
    return page


def boxes(page: Page, texts: str) -> list[tuple[str, float, float, float, float]]:
    """What is written in a picture, and where: left, top, right, bottom."""
    found = page.locator(texts).evaluate_all(
        """(texts) => texts.map((text) => {
            const {x, y, width, height} = text.getBBox();
            return [text.textContent, x, y, x + width, y + height];
        })"""
    )
    return [tuple(one) for one in found]


class TestATimelineOfTwoHundredEvents:
    def test_lists_all_events_in_a_scrollable_box(self, page: Page):
        sentences = page.locator(".outbox-sentences > li")

        expect(sentences).to_have_count(EVENTS)
        for region in ("Events in words", "Sequence diagram", "Waterfall"):
            box = page.get_by_role("region", name=region).bounding_box()
            assert box is not None
            assert box["height"] <= HEIGHT, region
        assert overflow(page) == []

    def test_has_no_overlapping_texts(self, page: Page):
        written = boxes(page, "#outbox-sequence svg text")

        assert len(written) > EVENTS
        by_height = sorted(written, key=lambda one: one[2])
        for number, (words, left, top, right, bottom) in enumerate(by_height):
            for other, other_left, other_top, other_right, _ in by_height[number + 1 :]:
                if other_top >= bottom:
                    break
                # Line boxes touch; letters overlap only where more than a third of one is covered.
                is_over = min(bottom - other_top, bottom - top) > (bottom - top) / 3
                assert not (is_over and left < other_right and other_left < right), (words, other)

    def test_is_drawn_in_its_full_size(self, page: Page):
        drawn = page.locator("#outbox-sequence svg")

        meant = float(drawn.get_attribute("width") or 0)
        box = drawn.bounding_box()

        assert box is not None
        assert box["width"] == pytest.approx(meant, abs=1)
        size = drawn.locator("text").first.evaluate("(text) => getComputedStyle(text).fontSize")
        assert float(size.removesuffix("px")) >= 11

    def test_has_a_waterfall_as_wide_as_its_box(self, page: Page):
        """Its texts are not scaled, and none is cut off or overlapped."""
        rows = page.locator("#outbox-waterfall .outbox-waterfall-name")
        box = page.get_by_role("region", name="Waterfall")

        assert rows.count() > EVENTS
        assert box.evaluate("(box) => box.scrollWidth <= box.clientWidth")
        size = rows.first.evaluate("(text) => getComputedStyle(text).fontSize")
        assert float(size.removesuffix("px")) >= 11
        window = page.viewport_size
        assert window is not None
        assert cut_off(page, window["width"]) == []

    def test_shows_app_names_at_every_scroll_position(self, page: Page):
        region = page.get_by_role("region", name="Sequence diagram")
        names = boxes(page, "#outbox-sequence svg .outbox-app-name")
        box = region.bounding_box()

        assert box is not None
        heights = sorted({top for _, _, top, _, _ in names})
        gaps = [after - before for before, after in pairwise(heights)]
        assert max(gaps) < box["height"]
