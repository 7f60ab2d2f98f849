"""The page of handlers and its live part, which is sent only if it has changed."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox import operations, subscribe
from outbox.counting import minutes
from outbox.models import Subscription
from outbox.testing import Outbox
from tests.outbox.drive import emit_orders, run_messages, run_pass
from tests.outbox.parcels import DELIVERIES, client_with, links_of, text_of

PAGE = reverse("admin:outbox_subscription_handlers")
PART = reverse("admin:outbox_subscription_handlers_part")
HANDLER = "tests.label_parcel"


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    @subscribe("tests.Sent")
    def label_parcel() -> None: ...

    return Outbox()


class TestTheLivePart:
    def test_is_not_sent_again_if_it_is_unchanged(self, outbox: Outbox, admin_client: Client):
        """Seen to fail where each row had a form, whose token is another one each time."""
        first = admin_client.get(PART)

        again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert HANDLER in first.content.decode()
        assert (again.status_code, again.content) == (304, b"")

    def test_is_sent_when_a_handler_is_paused(self, outbox: Outbox, admin_client: Client):
        first = admin_client.get(PART)
        operations.pause(HANDLER, by="user:1", reason="Out of ink")

        again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert again.status_code == 200
        assert "Out of ink" in again.content.decode()

    def test_has_the_notice_for_a_refresh_that_fails(self, outbox: Outbox, admin_client: Client):
        for url in (PAGE, PART):
            text = text_of(admin_client, url)

            assert 'data-outbox-unrefreshed="This shows the state of {time}. It cannot' in text

    def test_has_buttons_of_the_forms_of_the_page(self, outbox: Outbox, admin_client: Client):
        page = admin_client.get(PAGE).content.decode()

        buttons = set(re.findall(r'<button [^>]*form="([^"]+)"', page))
        forms = set(re.findall(r'<form method="post" id="([^"]+)"', page))

        assert buttons == {"outbox-pause"}
        assert forms == {"outbox-pause", "outbox-resume", "outbox-close_breaker"}


class TestAnEndedHandler:
    def test_has_no_button(self, outbox: Outbox, admin_client: Client):
        """Failed: it had buttons that pause it and close its breaker, although it never runs."""
        Subscription.objects.update(breaker_opened_at=timezone.now())
        operations.end(HANDLER, by="ann", reason="its system is gone")

        page = admin_client.get(PAGE).content.decode()

        assert "ended" in page
        assert re.findall(r'<button [^>]*form="([^"]+)"', page) == []


class TestThePolicy:
    def test_is_not_that_of_a_removed_event(self, outbox: Outbox, admin_client: Client):
        """Failed: it was that of the first row, which the code does not update any more."""
        subscription = Subscription.objects.get()
        subscription.pk, subscription.event, subscription.known = None, "tests.Arrived", False
        subscription.attempts = 77
        subscription.save(force_insert=True)
        Subscription.objects.filter(known=True).update(attempts=5)

        page = text_of(admin_client, PAGE)

        assert "5 attempts, backoff" in page
        assert "77 attempts" not in page


class TestTheGroups:
    @pytest.fixture(autouse=True)
    def handlers(self, own_registry: None, no_nudge: None) -> None:
        """One handler that always fails, one that works, one without work, in two apps."""

        @subscribe("shops.Ordered", name="tests.award_points", backoff_base=60)
        def award_points(number: int) -> None:
            raise ZeroDivisionError("division by zero")

        @subscribe("shops.Ordered", name="archive.keep_a_copy")
        def keep_a_copy() -> None: ...

        @subscribe("shops.Closed", name="archive.shut")
        def shut() -> None: ...

        emit_orders(2)
        run_messages(run_pass())
        minutes.flush()

    def test_have_the_failing_one_first_with_its_exception(self, admin_client: Client):
        page = text_of(admin_client, PAGE)

        found = re.findall(r'<h2 id="outbox-app-\w+">([^<]+)</h2>', page)
        assert found == ["tests: 1 handler has failures", "archive"]
        assert "failing: ZeroDivisionError in tests.award_points, 2 deliveries" in page
        assert "division by zero" in page

    def test_hide_the_exception_without_the_permission(self):
        page = text_of(client_with("view_subscription"), PAGE)

        assert "✕ failing" in page
        assert "ZeroDivisionError" not in page
        assert "division by zero" not in page

    @pytest.mark.parametrize("permissions", [[], ["view_delivery"]])
    def test_link_only_to_pages_that_the_user_may_view(self, permissions: list[str]):
        """Failed: the numbers of deliveries led to 403."""
        client = client_with("view_subscription", *permissions)

        found = links_of(client, PAGE)

        assert "2 pending</span>" in text_of(client, PAGE)
        assert set(found.values()) == {200}
        assert any(one.startswith(DELIVERIES) for one in found) == bool(permissions)

    def test_fold_what_is_idle(self, admin_client: Client):
        page = text_of(admin_client, PAGE)

        folded = page.partition('<details class="outbox-fold" id="outbox-idle-archive">')[2]
        assert "1 idle handler" in folded
        assert "archive.shut" in folded
        assert "archive.keep_a_copy" not in folded

    def test_have_a_drawing_each_whose_numbers_are_said(self, admin_client: Client):
        page = text_of(admin_client, PAGE)

        assert page.count('class="outbox-sparkline"') == 3
        assert "Last 30 minutes: 2 done, at most 2 a minute; 0 failed." in page
        assert "Last 30 minutes: 0 done, at most 0 a minute; 2 failed." in page
