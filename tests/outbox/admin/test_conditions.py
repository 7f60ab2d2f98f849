"""The badge and the filter by condition in the list of a model that events are about."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from outbox import DomainEvent, PermanentFailure, emit, subscribe
from outbox.admin import ConditionMixin
from outbox.models import Delivery, Event, Subscription
from outbox.monitor import conditions
from outbox.testing import Outbox
from tests.outbox.parcels import client_with, listed, text_of
from tests.outbox.project.freight.admin import ParcelAdmin
from tests.outbox.project.freight.models import Parcel

PARCELS = reverse("admin:freight_parcel_changelist")
FAILING_PARCELS = f"{PARCELS}?condition=failing"


class Franked(DomainEvent, key="parcel_id"):
    """A parcel has its stamps."""

    parcel_id: UUID


class StampsOrdered(DomainEvent, key="shop_id"):
    """There are new stamps."""

    shop_id: UUID


@pytest.fixture
def broken() -> list[Exception]:
    return []


@pytest.fixture
def outbox(own_registry: None, broken: list[Exception]) -> Outbox:
    @subscribe("tests.Franked")
    def weigh_parcel() -> None:
        if broken:
            raise broken[0]

    return Outbox()


def franked(outbox: Outbox) -> Parcel:
    parcel: Parcel = Parcel.objects.create()
    outbox.given("tests.Franked", parcel_id=parcel.pk)
    outbox.deliver_all(raise_errors=False)
    return parcel


@pytest.fixture
def failing(outbox: Outbox, broken: list[Exception]) -> Parcel:
    franked(outbox)
    broken.append(ZeroDivisionError("division by zero"))
    return franked(outbox)


def page_of(parcel: Parcel) -> str:
    return reverse("admin:freight_parcel_change", args=[parcel.pk])


class TestTheList:
    def test_shows_a_condition_as_colour_shape_and_word(
        self, failing: Parcel, admin_client: Client
    ) -> None:
        text = text_of(admin_client, PARCELS)

        shape = '<span class="outbox-shape" aria-hidden="true">{}</span> {}</span>'
        assert '<span class="outbox-badge outbox-failing">' + shape.format("▲", "failing") in text
        assert '<span class="outbox-badge outbox-complete">' + shape.format("✓", "complete") in text

    def test_finds_the_failing_rows(self, failing: Parcel, admin_client: Client) -> None:
        found = admin_client.get(PARCELS, {"condition": "failing"})

        assert [row.pk for row in found.context["cl"].result_list] == [failing.pk]

    @pytest.mark.parametrize("condition", ["held", "dead", "overdue"])
    def test_finds_rows_in_each_other_condition(
        self, outbox: Outbox, admin_client: Client, condition: str
    ) -> None:
        parcel = franked(outbox)
        franked(outbox)
        mine = Delivery.objects.filter(event__key=parcel.pk)
        if condition == "dead":
            mine.update(state="dead")
        else:
            Delivery.objects.filter(pk=mine.get().pk).update(
                state="pending", due_at=timezone.now() - timedelta(minutes=5)
            )
        if condition == "held":
            Subscription.objects.update(breaker_opened_at=timezone.now())

        assert listed(admin_client, f"{PARCELS}?condition={condition}") == [parcel.pk]

    def test_ignores_keys_that_no_row_can_have(
        self, failing: Parcel, outbox: Outbox, admin_client: Client
    ) -> None:
        outbox.given("tests.Franked", parcel_id=UUID(int=1))
        Event.objects.filter(key=str(UUID(int=1))).update(key="no uuid")
        outbox.deliver_all(raise_errors=False)

        assert listed(admin_client, f"{PARCELS}?condition=failing") == [failing.pk]

    def test_ignores_keys_beyond_the_integers_of_its_column(self, db: None) -> None:
        class UserPages(ConditionMixin):
            """Rows with an integer as their key."""

        user = User.objects.create_user("ann")
        keys = [str(user.pk), str(10**20), str(-(10**20))]

        found = UserPages(User, AdminSite()).rows_of_keys(keys)

        assert list(User.objects.filter(pk__in=found)) == [user]

    def test_says_that_it_is_incomplete_if_too_many_deliveries_are_owed(
        self, failing: Parcel, outbox: Outbox, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seen to fail: rows beyond the limit were missing without a word."""
        assert "This list is incomplete" not in text_of(admin_client, FAILING_PARCELS)

        monkeypatch.setattr(conditions, "_MOST_ROWS", 2)
        franked(outbox)

        assert "This list is incomplete" in text_of(admin_client, FAILING_PARCELS)

    def test_needs_the_permission_to_view_events(self, failing: Parcel) -> None:
        text = text_of(client_with("view_parcel"), PARCELS)

        assert "outbox-failing" not in text
        assert "condition=failing" not in text

    def test_costs_the_same_with_more_rows(self, outbox: Outbox, admin_client: Client) -> None:
        franked(outbox)
        with CaptureQueriesContext(connection) as few:
            admin_client.get(PARCELS)
        for _ in range(5):
            franked(outbox)
        with CaptureQueriesContext(connection) as many:
            admin_client.get(PARCELS)

        assert len(many) == len(few)


class TestARowWithADeadlineOfItsOwn:
    @pytest.fixture(autouse=True)
    def deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ParcelAdmin, "overdue", lambda self: Q(status="late"))
        monkeypatch.setattr(ParcelAdmin, "unfinished", lambda self: Q(status="travels"))

    def test_is_overdue_after_it(self, outbox: Outbox, admin_client: Client) -> None:
        late = Parcel.objects.create(status="late")
        franked(outbox)

        assert listed(admin_client, f"{PARCELS}?condition=overdue") == [late.pk]
        assert "The deadline of this row has passed." in text_of(admin_client, page_of(late))

    def test_is_in_progress_until_it_is_finished(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        parcel = franked(outbox)
        Parcel.objects.filter(pk=parcel.pk).update(status="travels")

        assert "outbox-in_progress" in text_of(admin_client, PARCELS)


class TestAnEffectWithAnotherKey:
    def test_counts_on_the_page_of_the_row_and_not_in_the_list(
        self, own_registry: None, admin_client: Client
    ) -> None:
        @subscribe("tests.Franked")
        def order_stamps() -> None:
            emit(StampsOrdered(shop_id=UUID(int=1)))

        @subscribe("tests.StampsOrdered")
        def pay_stamps() -> None:
            raise PermanentFailure("no money")

        parcel = franked(Outbox())

        assert "outbox-badge outbox-complete" in text_of(admin_client, PARCELS)
        assert listed(admin_client, f"{PARCELS}?condition=dead") == []
        assert "outbox-badge outbox-dead" in text_of(admin_client, page_of(parcel))


class TestTheSentenceOfARow:
    def test_names_handler_exception_start_and_next_attempt(
        self, failing: Parcel, admin_client: Client
    ) -> None:
        text = text_of(admin_client, page_of(failing))

        top = text[text.index('id="outbox-condition"') : text.index('id="parcel_form"')]
        assert "tests.weigh_parcel, since 20" in top
        assert "ZeroDivisionError: division by zero" in top
        assert "Retried at" in top or "Due again now" in top

    def test_names_the_pause_with_its_person_and_reason(
        self, failing: Parcel, admin_client: Client
    ) -> None:
        Delivery.objects.filter(event__key=failing.pk).update(state="parked")
        Subscription.objects.update(
            paused_at=timezone.now(), paused_by="user:7", pause_reason="the scales are away"
        )

        text = text_of(admin_client, page_of(failing))

        top = text[text.index('id="outbox-condition"') : text.index('id="parcel_form"')]
        assert "outbox-badge outbox-held" in top
        assert "tests.weigh_parcel is paused by user:7 since" in top
        assert "(the scales are away). To resume it:" in top
        assert reverse("admin:outbox_subscription_handlers") in top

    def test_has_a_button_that_retries_and_returns(
        self, failing: Parcel, broken: list[Exception], outbox: Outbox, admin_client: Client
    ) -> None:
        delivery = Delivery.objects.get(event__key=failing.pk)
        Delivery.objects.update(due_at=timezone.now() + timedelta(hours=1))
        text = text_of(admin_client, page_of(failing))
        assert f'form="outbox-retry" name="_selected_action" value="{delivery.pk}"' in text

        answer = admin_client.post(
            reverse("admin:outbox_delivery_changelist"),
            {"action": "retry", "_selected_action": delivery.pk, "to_page": page_of(failing)},
        )

        delivery.refresh_from_db()
        assert answer["Location"] == page_of(failing)
        assert delivery.due_at <= timezone.now()

    @pytest.mark.parametrize("address", ["https://evil.example.com/", "//evil.example.com/"])
    def test_returns_to_no_other_host(
        self, failing: Parcel, admin_client: Client, address: str
    ) -> None:
        delivery = Delivery.objects.get(event__key=failing.pk)

        answer = admin_client.post(
            reverse("admin:outbox_delivery_changelist"),
            {"action": "retry", "_selected_action": delivery.pk, "to_page": address},
        )

        assert "evil" not in answer["Location"]

    def test_quotes_no_exception_without_the_permission_to_view_deliveries(
        self, failing: Parcel
    ) -> None:
        text = text_of(client_with("view_parcel", "view_event"), page_of(failing))

        assert "The reason is shown to users who may view deliveries." in text
        assert "ZeroDivisionError" not in text

    def test_has_no_button_or_link_that_answers_403(self, failing: Parcel) -> None:
        """Failed: both led to the deliveries, which this user may not view."""
        delivery = Delivery.objects.get(event__key=failing.pk)
        client = client_with("view_parcel", "view_event", "retry_delivery")

        text = text_of(client, page_of(failing))

        top = text[text.index('id="outbox-condition"') : text.index('id="parcel_form"')]
        assert "tests.weigh_parcel" in top
        assert "Retry now" not in top
        assert reverse("admin:outbox_delivery_change", args=[delivery.pk]) not in top
