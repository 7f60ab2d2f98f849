"""The monitor of a project with two databases: the choice of one, and its pages and actions.

Both databases have the same ids for different rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from outbox.admin.pages import PAGES as OUTBOX_PAGES
from shop.up.credentials import ADMIN, Credentials
from tests.browser.conftest import HEIGHT, PHONE, WIDE
from tests.browser.layout_checks import cut_off
from tests.browser.page_checks import (
    BrowserErrors,
    findings,
    inline_parts,
    overflow,
    policy_errors,
)
from tests.browser.pages import OUTBOX
from tests.browser.site import value_in
from tests.databases import fresh_database
from tests.shop.web_server import HOST, web_server

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

#: The aliases in tests/browser/two_databases.py.
FIRST, SECOND = "default", "shard_1"
PAUSED = "orders.erase_answers"
_FURNISH = f"""
from uuid import UUID
from django.core.management import call_command
from django.utils import timezone
from outbox import operations
from outbox.models import Alert
from outbox.testing import Outbox
call_command("migrate", database="{SECOND}", verbosity=0)
now = timezone.now()
for number, using in enumerate(("{FIRST}", "{SECOND}")):
    outbox = Outbox(using=using)
    outbox.given("outbox.SubjectRedacted", subject=f"customer:of-{{using}}")
    for order in (UUID(int=number), UUID(int=number + 2)):  # there is no such order
        outbox.given("inventory.StockReserved", order_id=order)
    outbox.deliver_all(raise_errors=False)
    operations.pause("{PAUSED}", by="user:1", reason=f"Seen in {{using}}.", using=using)
    Alert.objects.using(using).create(
        problem="dead:1", trigger="dead", opened_at=now, seen_at=now, text=f"Seen in {{using}}.",
        path="/admin/outbox/delivery/dead/",
    )
"""
#: Each row is found by a statement in the second database.
_ROWS: Mapping[str, str] = {
    "event": "SELECT min(seq) FROM outbox_event",
    "done": "SELECT min(id) FROM outbox_delivery WHERE state = 'done'",
    "dead": "SELECT min(id) FROM outbox_delivery WHERE state = 'dead'",
    "other dead": "SELECT max(id) FROM outbox_delivery WHERE state = 'dead'",
    "subscription": f"SELECT min(id) FROM outbox_subscription WHERE handler = '{PAUSED}'",
    "operation": "SELECT min(id) FROM outbox_operation",
    "alert": "SELECT min(id) FROM outbox_alert",
}
#: By what each is called in a test's name.
PAGES: Mapping[str, str] = {
    "the overview": "minute/",
    "the search": "minute/search/",
    "the health checks": "minute/health-checks/",
    "the events": "event/",
    "an event": "event/{event}/change/",
    "the timeline of nothing": "event/timeline/",
    "a timeline": f"event/timeline/?q=customer:of-{SECOND}",
    "the dead letters": "delivery/dead/",
    "the deliveries": "delivery/",
    "a done delivery": "delivery/{done}/change/",
    "a dead delivery": "delivery/{dead}/change/",
    "the correction of a payload": "delivery/{dead}/correct/",
    "the blocked keys": "delivery/blocked/",
    "the delayed events": "delayedevent/",
    "the handlers": "subscription/handlers/",
    "the subscriptions": "subscription/",
    "a paused subscription": "subscription/{subscription}/change/",
    "the map": "subscription/map/",
    "the periodic tasks": "minute/periodic/",
    "the sinks": "event/sinks/",
    "the sources": "event/sources/",
    "the contracts": "minute/contracts/",
    "the settlements": "settlement/",
    "the alerts": "alert/",
    "an alert": "alert/{alert}/change/",
    "the operations": "operation/",
    "an operation": "operation/{operation}/change/",
}
#: Addresses of the outbox, in links and forms, that do not name the database. The links to the
#: databases name each one, and the entry with the health light the one in the worst condition.
_LOST = """(name) => {
    const ours = (address) => address.pathname.startsWith("/admin/outbox/");
    const others = ".outbox-databases a, #nav-sidebar .model-minute a";
    const found = [];
    for (const attribute of ["href", "action", "formaction", "hx-get"]) {
        for (const element of document.querySelectorAll(`[${attribute}]`)) {
            const address = new URL(element.getAttribute(attribute), location.href);
            const named = address.searchParams.get("database");
            const isGet = element.getAttribute("method") === "get";
            const expected = element.matches(others) ? named : name;
            if (ours(address) && !isGet && (!named || named !== expected)) {
                found.push(element.outerHTML.slice(0, 200));
            }
        }
    }
    for (const form of document.querySelectorAll("form[method=get]")) {
        const fields = form.querySelectorAll(`input[name=database][value=${name}]`);
        const address = form.getAttribute("action") || location.href;
        if (ours(new URL(address, location.href)) && fields.length !== 1) {
            found.push(form.outerHTML.slice(0, 200));
        }
    }
    return found;
}"""


@dataclass(frozen=True)
class TwoDatabases:
    """A web server whose outbox is in two databases. No relay and no worker changes a row.

    Attributes:
        url: of the web server.
        password: of the superuser.
        databases: the DATABASE_URL of each alias.
        rows: the ids of the rows that the pages show.
    """

    url: str
    password: str
    databases: Mapping[str, str]
    rows: Mapping[str, int]

    def value(self, using: str, statement: str, *parameters: object) -> Any:
        return value_in(self.databases[using], statement, *parameters)

    def address(self, path: str, using: str = SECOND) -> str:
        """Return the address of a page below that of the outbox."""
        sign = "&" if "?" in path else "?"
        return f"{OUTBOX}/{path.format(**self.rows)}{sign}database={using}"


@pytest.fixture(scope="module")
def shop(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoDatabases]:
    folder = tmp_path_factory.mktemp("two-databases")
    with (
        fresh_database() as second,
        web_server(
            folder,
            DJANGO_SETTINGS_MODULE="tests.browser.two_databases",
            SECOND_DATABASE_URL=second,
        ) as server,
    ):
        server.run_code(_FURNISH)
        yield TwoDatabases(
            url=f"http://{HOST}:{server.start()}",
            password=Credentials(folder).get(ADMIN, "password"),
            databases={FIRST: str(server.environment["DATABASE_URL"]), SECOND: second},
            rows={name: value_in(second, statement) for name, statement in _ROWS.items()},
        )


@pytest.fixture(scope="module")
def window(browser: Browser, shop: TwoDatabases) -> Iterator[BrowserContext]:
    """A window of the superuser."""
    window = browser.new_context(base_url=shop.url, viewport={"width": WIDE, "height": HEIGHT})
    page = window.new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill(ADMIN)
    page.get_by_label("Password").fill(shop.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Site administration").wait_for()
    page.close()
    yield window
    window.close()


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    page = window.new_page()
    yield page
    page.close()


@pytest.fixture
def watched(page: Page) -> Iterator[Page]:
    """A page in which the browser must log no error until the end of the test."""
    errors = BrowserErrors(page)
    yield page
    assert errors.found == []


def choice(page: Page, name: str = "Databases of the outbox") -> Locator:
    return page.get_by_role("navigation", name=name)


def shown(page: Page) -> Locator:
    """The database that the page marks as the one it shows."""
    return choice(page).locator("[aria-current=page]")


def carry_out(page: Page, reason: str) -> None:
    """Confirm an action whose button was clicked."""
    page.get_by_label("Reason").fill(reason)
    page.locator("input[type=submit].default").click()


@pytest.mark.parametrize("name", PAGES)
class TestEachPage:
    def test_keeps_the_second_database_and_passes_the_checks(
        self, page: Page, shop: TwoDatabases, name: str
    ):
        errors = BrowserErrors(page)
        answer = page.goto(shop.address(PAGES[name]))
        assert answer is not None

        assert answer.status == 200
        assert f"database={SECOND}" in page.url
        assert policy_errors(answer) == []
        assert inline_parts(answer.text()) == []
        expect(shown(page)).to_have_text(SECOND)
        assert choice(page).get_by_role("link").all_inner_texts() == [FIRST, SECOND]
        assert page.evaluate(_LOST, SECOND) == []
        for width in (WIDE, PHONE):
            assert cut_off(page, width) == [], width
            assert overflow(page) == [], width
        # Before axe, which tries out styles that the policy forbids.
        assert errors.found == []
        assert [str(one) for one in findings(page)] == []


class TestTheTestedPages:
    def test_include_all_pages_of_the_outbox(self, shop: TwoDatabases):
        looked_at = {f"{OUTBOX}/{path}" for path in PAGES.values()}

        assert {page.url for page in OUTBOX_PAGES} <= looked_at


class TestTheChoice:
    def test_is_the_first_database_without_a_name(self, watched: Page, shop: TwoDatabases):
        watched.goto(f"{OUTBOX}/event/")

        expect(shown(watched)).to_have_text(FIRST)
        expect(watched.locator("#result_list")).to_contain_text(f"customer:of-{FIRST}")
        expect(watched.locator("#result_list")).not_to_contain_text(f"customer:of-{SECOND}")

    def test_is_kept_by_links_and_forms(self, watched: Page, shop: TwoDatabases):
        watched.goto(f"{OUTBOX}/minute/")
        choice(watched).get_by_role("link", name=SECOND).click()
        expect(shown(watched)).to_have_text(SECOND)

        pages = watched.get_by_role("navigation", name="Pages of the outbox")
        pages.get_by_role("link", name="Events", exact=True).click()
        expect(watched.locator("#result_list")).to_contain_text(f"customer:of-{SECOND}")
        expect(watched.locator("#result_list")).not_to_contain_text(f"customer:of-{FIRST}")
        watched.locator("#changelist-filter").get_by_role(
            "link", name="dead", exact=False
        ).first.click()
        expect(watched).to_have_url(re.compile("state=dead"))
        expect(shown(watched)).to_have_text(SECOND)
        watched.locator("#searchbar").fill(f"customer:of-{SECOND}")
        watched.locator("#changelist-search [type=submit]").click()
        expect(shown(watched)).to_have_text(SECOND)

    def test_is_kept_by_the_search_of_the_outbox(self, watched: Page, shop: TwoDatabases):
        watched.goto(shop.address("minute/"))
        field = watched.get_by_placeholder("Id, reference or e-mail address").first

        field.fill(f"customer:of-{SECOND}")
        field.press("Enter")

        expect(watched.locator("#outbox-timeline")).to_contain_text("Done:")
        expect(shown(watched)).to_have_text(SECOND)

    def test_is_named_in_japanese(self, watched: Page, shop: TwoDatabases):
        watched.set_extra_http_headers({"Accept-Language": "ja"})
        watched.goto(shop.address("minute/"))

        expect(choice(watched, "アウトボックスのデータベース")).to_be_visible()


class TestALivePart:
    @pytest.mark.parametrize(
        ("path", "part", "element"),
        [
            ("minute/", "minute/part/", "#outbox-overview"),
            ("subscription/handlers/", "handlers/part/", "#outbox-handlers"),
            (f"event/timeline/?q=customer:of-{SECOND}", "timeline/part/", "#outbox-timeline"),
        ],
    )
    def test_keeps_the_database(
        self, watched: Page, shop: TwoDatabases, path: str, part: str, element: str
    ):
        watched.goto(shop.address(path))

        for _ in range(2):  # the second request is that of the part that came by the first one
            with watched.expect_response(lambda one: part in one.url) as found:
                # monitor.js and htmx refresh a part at once when the page becomes visible.
                watched.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            assert f"database={SECOND}" in found.value.url
            assert found.value.status in (200, 304)
        assert watched.evaluate(_LOST, SECOND) == []
        expect(watched.locator(element)).not_to_contain_text(f"of-{FIRST}")


class TestAnAction:
    """Last, since it changes rows that other pages show."""

    _STATE = "SELECT state FROM outbox_delivery WHERE id = ?"
    _PAUSED = "SELECT count(*) FROM outbox_subscription WHERE paused_at IS NOT NULL AND handler = ?"

    def test_discards_a_delivery_in_one_database(self, watched: Page, shop: TwoDatabases):
        dead = shop.rows["dead"]
        watched.goto(shop.address("delivery/{dead}/change/"))

        watched.get_by_role("button", name="Discard", exact=True).click()
        carry_out(watched, "The order will never be there.")

        expect(watched.locator(".outbox-panel.outbox-discarded")).to_be_visible()
        expect(shown(watched)).to_have_text(SECOND)
        assert shop.value(SECOND, self._STATE, dead) == "discarded"
        assert shop.value(FIRST, self._STATE, dead) == "dead"

    def test_retries_a_group_in_one_database(self, watched: Page, shop: TwoDatabases):
        dead = shop.rows["other dead"]
        watched.goto(shop.address("delivery/dead/"))

        watched.get_by_role("button", name="Retry now", exact=True).click()
        carry_out(watched, "The order is there now.")

        expect(watched.get_by_role("progressbar")).to_have_attribute("value", "1")
        expect(shown(watched)).to_have_text(SECOND)
        assert shop.value(SECOND, self._STATE, dead) != "dead"
        assert shop.value(FIRST, self._STATE, dead) == "dead"

    def test_resumes_a_handler_in_one_database(self, watched: Page, shop: TwoDatabases):
        watched.goto(shop.address("subscription/handlers/"))
        before = shop.value(FIRST, self._PAUSED, PAUSED)

        watched.get_by_role("button", name=f"Resume {PAUSED}", exact=True).click()

        resumed = watched.get_by_label(f"Pause {PAUSED}", exact=True)  # it may be folded
        expect(resumed).to_have_count(1)
        expect(shown(watched)).to_have_text(SECOND)
        assert shop.value(SECOND, self._PAUSED, PAUSED) == 0
        assert shop.value(FIRST, self._PAUSED, PAUSED) == before > 0
