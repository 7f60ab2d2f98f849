"""The API's documentation: Swagger UI in the site's layout and colours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Response, expect

from tests.browser.accepted_findings import AcceptedFinding, accepted_in
from tests.browser.conftest import HEIGHT, PHONE, WIDE
from tests.browser.page_checks import (
    BrowserErrors,
    Finding,
    all_findings,
    inline_parts,
    overflow,
    policy_errors,
)
from tests.browser.site import Site
from tests.browser.swagger_ui import KNOWN

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

ADDRESS = "/api/docs/"
PATIENCE = 60_000


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def page(browser: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window of a stranger, as most readers of it are."""
    context = browser.new_context(
        base_url=site.url, viewport={"width": request.param, "height": HEIGHT}
    )
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def open_docs(page: Page) -> Response:
    """Open the page, and wait until its script has written what stands in it."""
    answer = page.goto(ADDRESS)
    assert answer is not None
    expect(operation(page, "list_products")).to_be_visible()
    return answer


def operation(page: Page, name: str) -> Locator:
    return page.locator(f".opblock[id$=-{name}]")


def unfold(page: Page) -> None:
    """Open an operation of each method that there is."""
    for name in ("list_products", "place_order", "change_webhook", "remove_webhook"):
        operation(page, name).locator(".opblock-summary-control").click()
        expect(operation(page, name).locator(".responses-table").first).to_be_visible()


def try_out(page: Page) -> None:
    """Ask for the products, and begin to write an order."""
    for name in ("list_products", "place_order"):
        operation(page, name).get_by_role("button", name="Try it out").click()
    operation(page, "list_products").get_by_role("button", name="Execute").click()
    answer = operation(page, "list_products").locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")


def ask_for_token(page: Page) -> None:
    """Open the dialog in which one gives one's token."""
    page.locator(".auth-wrapper > .authorize").click()
    expect(page.locator(".modal-ux-inner, .modal-ux").first).to_be_visible()


STEPS: tuple[Callable[[Page], object], ...] = (open_docs, unfold, try_out, ask_for_token)


class TestTheDocumentation:
    def test_has_the_sites_layout(self, page: Page):
        answer = open_docs(page)

        assert policy_errors(answer) == []
        assert inline_parts(answer.text()) == []
        assert page.title() == "The shop's API"

    def test_has_no_layout_errors_after_each_interaction(self, page: Page):
        errors = BrowserErrors(page)

        for step in STEPS:
            step(page)
            assert overflow(page) == [], step.__name__

        assert errors.found == []

    def test_is_accessible_except_for_swagger_uis_own_markup(self, page: Page):
        ours: list[Finding] = []
        theirs: set[AcceptedFinding] = set()
        for step in STEPS:
            step(page)
            for found in all_findings(page):
                if known := accepted_in(page, found.rule, found.target, KNOWN):
                    theirs.add(known)
                else:
                    ours.append(found)

        assert not ours, "\n".join(map(str, ours))
        # A fault that they have mended is none that we may have.
        assert theirs == set(KNOWN)


def authorize(page: Page, token: str) -> None:
    ask_for_token(page)
    dialog = page.locator(".modal-ux").first
    dialog.get_by_role("textbox").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").first.click()


def prepare(page: Page, name: str) -> Locator:
    """Open the form of an operation."""
    operation(page, name).locator(".opblock-summary-control").click()
    operation(page, name).get_by_role("button", name="Try it out").click()
    return operation(page, name)


def execute(page: Page, name: str, status: str) -> str:
    """Send the request of an open form; return the body of the answer."""
    form = operation(page, name)
    form.get_by_role("button", name="Execute").click()
    row = form.locator(".live-responses-table .response").last
    expect(row.locator(".response-col_status")).to_contain_text(status)
    return row.locator(".response-col_description pre").first.inner_text()


class TestTryItOut:
    def test_asks_for_a_token_and_nothing_else(self, page: Page):
        open_docs(page)
        ask_for_token(page)

        assert page.locator(".auth-container").count() == 1

    def test_places_orders_and_cancels_one(self, page: Page, site: Site):
        """Failed: the key was missing, and the id of the order had to be copied."""
        open_docs(page)
        authorize(page, site.credentials.get("alice", "token"))

        prepare(page, "place_order")
        first = json.loads(execute(page, "place_order", "201"))["id"]
        field = operation(page, "get_order").locator("input[placeholder=id]")
        prepare(page, "get_order")
        expect(field).to_have_value(first)

        operation(page, "place_order").get_by_role("button", name="Execute").click()
        expect(field).not_to_have_value(first)
        second = field.input_value()
        assert json.loads(execute(page, "get_order", "200"))["id"] == second

        prepare(page, "cancel_order")
        assert json.loads(execute(page, "cancel_order", "200"))["id"] == second
