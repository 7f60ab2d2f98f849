"""The timeline and the map in the admin, and their permissions."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from outbox import subscribe
from outbox.counting.minutes import rates
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.outbox.parcels import (
    HOSTILE,
    TIMELINE,
    client_with,
    links_of,
    packed,
    page_of,
    subscribe_to_parcels,
    text_of,
)
from tests.outbox.project.freight.models import Parcel


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    return subscribe_to_parcels()


class TestTheTimeline:
    def test_shows_events_in_order_with_the_reason_of_a_failure(self, outbox, admin_client):
        event = packed(outbox)

        text = text_of(admin_client, f"{TIMELINE}?q={event.key}")

        table = text[text.index('<table class="outbox-timeline">') :]
        places = [
            table.index(part)
            for part in (
                ">tests.Packed</a>",
                ">tests.label_parcel</a>",
                "the handler refused it",
                ">tests.Labelled</a>",
                "emitted by tests.label_parcel",
            )
        ]
        assert places == sorted(places)
        assert "Dead: 1 of 2 deliveries needs attention." in text
        assert 'class="outbox-depth-1">' in text

    def test_links_only_to_pages_that_the_user_may_view(self, outbox, admin_user):
        """Failed: the pages of deliveries and of the actor answered 403."""
        event = packed(outbox)
        Event.objects.update(actor=f"user:{admin_user.pk}")
        url = f"{TIMELINE}?q={event.key}"
        client = client_with("view_event")

        text = text_of(client, url)

        assert "tests.label_parcel" in text
        assert f"by {admin_user.get_username()}" in text
        assert set(links_of(client, url).values()) == {200}

    def test_links_to_deliveries_with_their_permission(self, outbox):
        event = packed(outbox)

        found = links_of(client_with("view_event", "view_delivery"), f"{TIMELINE}?q={event.key}")

        assert set(found.values()) == {200}
        assert {page_of(row) for row in Delivery.objects.all()} <= set(found)

    @pytest.mark.parametrize("of", ["key", "id", "correlation_id"])
    def test_is_found_by_a_key_an_event_id_or_a_correlation_id(self, outbox, admin_client, of):
        event = packed(outbox)
        sought = str(getattr(event, of)).upper()

        text = text_of(admin_client, f"{TIMELINE}?q={sought}")

        assert ">tests.Packed</a>" in text
        assert ">tests.Labelled</a>" in text

    def test_distinguishes_work_in_progress_from_done_work(self, outbox, admin_client):
        event = outbox.given("tests.Packed", parcel_id=uuid4())
        url = f"{TIMELINE}?q={event.key}"

        waiting = text_of(admin_client, url)
        outbox.deliver_all(only="tests.label_parcel")
        owed = text_of(admin_client, url)
        Delivery.objects.update(state="done")
        outbox.deliver_all()
        done = text_of(admin_client, url)

        assert "In progress: 1 event waits for the relay." in waiting
        assert "In progress: 1 of 2 deliveries are owed." in owed
        assert "Done: 2 events, 2 deliveries, in" in done

    def test_counts_one_event_in_the_singular(self, own_registry, admin_client):
        @subscribe("tests.Labelled")
        def note_label() -> None: ...

        outbox = Outbox()
        event = outbox.given("tests.Labelled", parcel_id=uuid4())
        outbox.deliver_all()

        text = text_of(admin_client, f"{TIMELINE}?q={event.key}")

        assert "Done: 1 event, 1 delivery, in" in text

    @pytest.mark.parametrize("sought", ["", "nothing", HOSTILE, "%00", str(UUID(int=7))])
    def test_shows_the_next_step_without_a_match(self, outbox, admin_client, sought):
        text = text_of(admin_client, f"{TIMELINE}?q={sought}")

        assert 'class="outbox-empty"' in text
        assert HOSTILE not in text


class TestARowsOwnPage:
    def test_shows_the_timeline_and_why_it_is_stuck(self, outbox, admin_client):
        parcel = Parcel.objects.create()
        packed(outbox, parcel_id=parcel.pk)

        text = text_of(admin_client, reverse("admin:freight_parcel_change", args=[parcel.pk]))

        assert ">tests.Labelled</a>" in text
        assert text.index('id="outbox-condition"') < text.index("Dead: the handler refused")
        assert text.index("Dead: the handler refused") < text.index('id="outbox-timeline"')

    def test_has_a_text_without_events(self, outbox, admin_client):
        parcel = Parcel.objects.create()

        text = text_of(admin_client, reverse("admin:freight_parcel_change", args=[parcel.pk]))

        assert "No event has this key or id." in text

    def test_hides_the_timeline_without_the_permission_to_view_events(self, outbox):
        parcel = Parcel.objects.create()
        packed(outbox, parcel_id=parcel.pk)

        text = text_of(
            client_with("view_parcel"), reverse("admin:freight_parcel_change", args=[parcel.pk])
        )

        assert "outbox-timeline" not in text


class TestTheTimelinesPart:
    PART = reverse("admin:outbox_event_timeline_part")

    def test_is_not_sent_again_if_it_is_unchanged(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        address = f"{self.PART}?q={packed(outbox).key}"
        first = admin_client.get(address)

        again = admin_client.get(address, headers={"If-None-Match": first["ETag"]})

        assert "outbox-picture" in first.content.decode()
        assert (again.status_code, again.content) == (304, b"")

    def test_is_sent_if_it_has_changed(self, outbox: Outbox, admin_client: Client) -> None:
        event = packed(outbox)
        address = f"{self.PART}?q={event.key}"
        first = admin_client.get(address)
        outbox.given("tests.Packed", parcel_id=UUID(event.key))

        again = admin_client.get(address, headers={"If-None-Match": first["ETag"]})

        assert again.status_code == 200

    @pytest.mark.parametrize("by", ["key", "correlation_id"])
    def test_is_requested_by_the_page_of_a_search(
        self, outbox: Outbox, admin_client: Client, by: str
    ) -> None:
        """Seen to fail where the page of a correlation id asked for nothing."""
        sought = str(getattr(packed(outbox), by))

        page = admin_client.get(reverse("admin:outbox_event_timeline"), {"q": sought})
        part = admin_client.get(self.PART, {"q": sought}).content.decode()

        assert f'hx-get="{self.PART}?q={sought}"' in page.content.decode()
        assert f'hx-get="{self.PART}?q={sought}"' in part
        assert "tests.Packed" in part

    def test_without_events_yet_is_polled(self, outbox: Outbox, admin_client: Client) -> None:
        page = admin_client.get(reverse("admin:outbox_event_timeline"), {"q": "later"})

        assert f'hx-get="{self.PART}?q=later"' in page.content.decode()

    def test_requires_the_permission_to_view_events(self, outbox: Outbox) -> None:
        event = packed(outbox)

        answer = client_with("view_parcel").get(f"{self.PART}?q={event.key}")

        assert answer.status_code == 403


class TestTheMap:
    MAP = reverse("admin:outbox_subscription_map")

    def test_shows_subscriptions_and_events_without_subscriber(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        packed(outbox)

        text = text_of(admin_client, self.MAP)

        assert "tests.Packed → tests.label_parcel" in text
        assert "no subscriber" in text
        assert "tests.Labelled" in text

    def test_leaves_out_the_outboxs_own_events_that_nothing_uses(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        packed(outbox)

        assert "outbox.UnreadableMessageReceived" not in text_of(admin_client, self.MAP)

    def test_costs_the_same_with_many_events(self, outbox: Outbox, admin_client: Client) -> None:
        packed(outbox)
        with CaptureQueriesContext(connection) as few:
            admin_client.get(self.MAP)
        for _ in range(5):
            packed(outbox)
        with CaptureQueriesContext(connection) as many:
            admin_client.get(self.MAP)

        assert len(many) == len(few)

    def test_requires_the_permission_to_view_subscriptions(self, db: None) -> None:
        assert client_with("view_event").get(self.MAP).status_code == 403


class TestRates:
    def test_are_of_the_last_ten_minutes(self, outbox: Outbox) -> None:
        for _ in range(3):
            packed(outbox)
        Event.objects.filter(pk=packed(outbox).pk).update(
            emitted_at=timezone.now() - timedelta(minutes=11)
        )

        assert rates()["tests.Packed"] == pytest.approx(0.3)

    def test_are_none_without_events(self, db: None) -> None:
        assert rates() == {}
