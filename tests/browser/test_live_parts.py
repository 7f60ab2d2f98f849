"""Parts of pages that are refreshed: a failed refresh, the end of the session, opened sections."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from tests.browser.scene import Scene
from tests.browser.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

OVERVIEW = "/admin/outbox/minute/"
PART = "**/minute/part/"

#: Shorten the limit of each request, if it has one, from 30 s.
SHORTENED = """
document.addEventListener("htmx:configRequest", (event) => { event.detail.timeout /= 10; });
"""

FAILURES: dict[str, Callable[[Route], None]] = {
    "an error": lambda route: route.fulfill(status=502, body="Bad gateway"),
    "no connection": lambda route: route.abort(),
    "no answer": lambda route: None,
}


class TestTheOverview:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_shows_that_it_is_not_refreshed_until_it_is(self, page: Page, site: Site, failure: str):
        page.goto(OVERVIEW)
        page.evaluate(SHORTENED)
        notice = page.locator("#outbox-overview [role=alert]")

        page.route(PART, FAILURES[failure])
        expect(notice).to_have_text(
            re.compile(r"^This shows the state of .*\d\d:\d\d.*\. It cannot be refreshed")
        )
        page.unroute(PART)

        expect(notice).to_have_count(0)

    def test_leads_back_from_the_login_after_the_end_of_the_session(
        self, context: BrowserContext, page: Page, site: Site
    ):
        page.goto(OVERVIEW)

        context.clear_cookies()

        expect(page).to_have_url(f"{site.url}/admin/login/?next={OVERVIEW}")
        expect(page.get_by_label("Password")).to_have_count(1)


class TestThePageOfAnOrder:
    def test_keeps_a_section_open_while_another_part_is_renewed(self, page: Page, scene: Scene):
        """The sentence at the top changes, the timeline with the section does not."""
        table, is_open = page.locator("details#outbox-table"), False

        def answer(route: Route) -> None:
            headers = {**route.request.headers}
            headers.pop("if-none-match", None)
            if is_open:
                route.continue_(headers=headers)
            else:
                route.fulfill(status=204)

        page.route("**/timeline/condition/**", answer)
        page.goto(f"/admin/orders/order/{scene.stuck.id}/change/")
        with page.expect_response(lambda one: is_of(one, "timeline/part", status=304)):
            pass
        page.route("**/timeline/part/**", lambda route: None)  # its last state is a closed section

        table.locator("summary").click()
        is_open = True
        for _ in range(2):  # when the second one arrives, the first one is shown
            with page.expect_response(lambda one: is_of(one, "timeline/condition", status=200)):
                pass

        expect(table).to_have_attribute("open", "")


def is_of(response: Response, part: str, *, status: int) -> bool:
    return f"/{part}/" in response.url and response.status == status
