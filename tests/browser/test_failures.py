"""From a failure to its repair: the clicks of staff who begin on the overview."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import HEIGHT, WIDE
from tests.browser.page_checks import BrowserErrors
from tests.browser.scene import Scene
from tests.browser.site import CEILING, Site, running_site
from tests.browser.visitor import Hand, open_failures, retry_failures
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

OVERVIEW = "/admin/outbox/minute/"
FAILS = "notifications.acknowledge_order"
IS_DEAD = "notifications.announce_ready_to_ship"
MOST_CLICKS = 3

_FAILED = (
    "SELECT count(*) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id"
    " WHERE d.state = 'pending' AND d.attempts > 0 AND s.handler = ?"
)
_LINE = """
from outbox.models import Attempt
print(Attempt.objects.filter(delivery__subscription__handler="{handler}").latest("id").place)
"""


@pytest.fixture(scope="module")
def failing_site(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop without a mail server, whose handlers try again after ten minutes."""
    late = json.dumps({"BACKOFF_BASE": 600, "BACKOFF_CAP": 600})
    with running_site(tmp_path_factory.mktemp("failing"), OUTBOX=late) as site:
        yield site


@pytest.fixture
def overview(browser: Browser, failing_site: Site) -> Iterator[Page]:
    """The open overview of that shop."""
    context = browser.new_context(
        base_url=failing_site.url, viewport={"width": WIDE, "height": HEIGHT}
    )
    page = context.new_page()
    errors = BrowserErrors(page)
    failing_site.log_in(page)
    page.goto(OVERVIEW)
    yield page
    context.close()
    assert errors.found == []


def failing(site: Site) -> int:
    """The number of deliveries whose attempts have failed."""
    return int(site.value(_FAILED, FAILS))


def fail_once_more(site: Site) -> None:
    before = failing(site)
    site.place()
    eventually(lambda: failing(site) > before, "an attempt fails", within=CEILING)


class TestAFailingHandler:
    def test_is_on_the_open_overview_after_its_first_failed_attempt(
        self, overview: Page, failing_site: Site
    ):
        number = failing(failing_site) + 1
        overview.evaluate("window.hasNotBeenLoadedAgain = true")

        failing_site.place()

        panel = overview.get_by_role("region", name="Failing")
        expect(panel).to_contain_text(f"ConnectionRefusedError in {FAILS}, {number} deliver")
        assert overview.evaluate("window.hasNotBeenLoadedAgain") is True

    def test_shows_exception_and_line_after_one_click(self, overview: Page, failing_site: Site):
        fail_once_more(failing_site)
        line = failing_site.run(_LINE.format(handler=FAILS)).splitlines()[-1]
        overview.goto(OVERVIEW)
        hand = Hand(overview)

        open_failures(hand, FAILS)

        group = overview.get_by_role("region", name=f"{FAILS} is failing")
        expect(group).to_contain_text("ConnectionRefusedError")
        expect(group).to_contain_text(line)
        assert hand.clicks == 1

    def test_shows_the_traceback_after_one_click(self, overview: Page, failing_site: Site):
        fail_once_more(failing_site)
        overview.goto(OVERVIEW)
        hand = Hand(overview)

        rows = overview.get_by_role("region", name="Failing").get_by_role("listitem")
        hand.click(rows.filter(has_text=FAILS).get_by_role("link", name="Traceback"))

        expect(overview.get_by_text("Traceback (most recent call last)")).to_be_visible()
        assert hand.clicks == 1

    def test_is_repaired_by_three_clicks_at_most(self, overview: Page, failing_site: Site):
        fail_once_more(failing_site)
        overview.goto(OVERVIEW)
        hand = Hand(overview)

        with failing_site.mail_server():
            retry_failures(hand, FAILS, reason="The mail server is back.")
            eventually(lambda: not failing(failing_site), "all are done", within=CEILING)

        assert hand.clicks <= MOST_CLICKS
        overview.goto(OVERVIEW)
        panel = overview.get_by_role("region", name="Failing")
        expect(panel).to_be_visible()
        expect(panel).not_to_contain_text(FAILS)


class TestADeadGroup:
    def test_is_repaired_by_three_clicks_at_most(self, page: Page, site: Site, scene: Scene):
        before = site.deliveries("dead", IS_DEAD)
        assert before > 0
        page.goto(OVERVIEW)
        hand = Hand(page)

        retry_failures(hand, IS_DEAD, reason="The mail server is back.")
        site.wait_until_settled()

        assert site.deliveries("dead", IS_DEAD) == 0
        assert hand.clicks <= MOST_CLICKS
