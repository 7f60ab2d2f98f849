"""The search of the admin: one field for all ids, and for the terms of the apps."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from outbox import subscribe
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.outbox.history import store
from tests.outbox.parcels import (
    EVENTS,
    HOSTILE,
    client_with,
    dead_one,
    packed,
    page_of,
    subscribe_to_parcels,
    text_of,
)
from tests.outbox.project.freight.models import Parcel
from tests.outbox.query_cost import rows_read

SEARCH = reverse("admin:outbox_minute_search")
TIMELINE = reverse("admin:outbox_event_timeline")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MOST_WORK = {"postgresql": 2000, "sqlite": 20_000}


def find_parcels(term: str) -> Iterable[Parcel]:
    return Parcel.objects.filter(address=term)


@pytest.fixture
def outbox(own_registry: None, settings: object) -> Outbox:
    settings.OUTBOX = {"LOOKUPS": {f"{__name__}.find_parcels": "address"}}  # type: ignore[attr-defined]  # pytest-django's fixture
    return subscribe_to_parcels()


def search(client: Client, term: str) -> str:
    """Return the URL of the redirect, or the text of the page."""
    answer = client.post(SEARCH, {"term": term})
    return answer["Location"] if answer.status_code == 302 else answer.content.decode()


class TestOneMatch:
    def test_of_an_event_id_leads_to_the_event(self, outbox: Outbox, admin_client: Client) -> None:
        event = packed(outbox)

        assert search(admin_client, f" {str(event.id).upper()} ") == page_of(event)

    def test_of_a_delivery_id_leads_to_the_delivery(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        packed(outbox)

        assert search(admin_client, str(dead_one().pk)) == page_of(dead_one())

    def test_of_a_key_leads_to_its_timeline(self, outbox: Outbox, admin_client: Client) -> None:
        key = packed(outbox).key

        assert search(admin_client, key) == f"{TIMELINE}?q={key}"

    def test_of_a_correlation_id_leads_to_its_timeline(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        correlation = packed(outbox).correlation_id

        assert search(admin_client, str(correlation)) == f"{TIMELINE}?q={correlation}"

    def test_of_a_trace_id_leads_to_the_event(self, outbox: Outbox, admin_client: Client) -> None:
        event = packed(outbox)
        Event.objects.filter(pk=event.pk).update(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")

        assert search(admin_client, TRACE.upper()) == page_of(event)

    def test_of_an_apps_term_leads_to_the_row(self, outbox: Outbox, admin_client: Client) -> None:
        parcel = Parcel.objects.create(address="ann@example.com")
        packed(outbox, parcel_id=parcel.pk)

        found = search(admin_client, "ann@example.com")

        assert found == reverse("admin:freight_parcel_change", args=[parcel.pk])


class TestSeveralMatches:
    def test_are_listed(self, outbox: Outbox, admin_client: Client) -> None:
        parcels = [Parcel.objects.create(address="ann@example.com") for _ in range(2)]

        text = search(admin_client, "ann@example.com")

        for parcel in parcels:
            assert reverse("admin:freight_parcel_change", args=[parcel.pk]) in text


class TestNoMatch:
    @pytest.mark.parametrize("term", ["nothing", HOSTILE, "\0", str(UUID(int=7)), "9" * 400])
    def test_shows_the_searched_terms(
        self, outbox: Outbox, admin_client: Client, term: str
    ) -> None:
        text = search(admin_client, term)

        assert "address, key of an event, event id, delivery id, correlation id, trace id" in text
        assert HOSTILE not in text

    def test_has_an_advice_for_a_visit_without_a_term(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        assert "Enter a whole id, reference or address" in text_of(admin_client, SEARCH)


class TestAUser:
    def test_finds_only_what_the_user_may_view(self, outbox: Outbox) -> None:
        parcel = Parcel.objects.create(address="ann@example.com")
        event = packed(outbox, parcel_id=parcel.pk)
        client = client_with("view_event")

        terms = [str(event.id), str(dead_one().pk), "ann@example.com"]
        found = [search(client, term) for term in terms]

        assert found[0] == page_of(event)
        assert all("Nothing that you may view matches" in text for text in found[1:])

    def test_that_is_no_staff_is_refused(self, outbox: Outbox, client: Client) -> None:
        assert client.post(SEARCH, {"term": "x"}).status_code == 302
        assert "/login/" in client.post(SEARCH, {"term": "x"})["Location"]

    def test_sees_one_field_on_each_page(self, outbox: Outbox, admin_client: Client) -> None:
        for url in (EVENTS, reverse("admin:outbox_minute_changelist"), SEARCH, TIMELINE):
            assert text_of(admin_client, url).count('class="outbox-find"') == 1


class TestATerm:
    def test_is_not_logged_and_in_no_url(
        self, outbox: Outbox, admin_client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            text = search(admin_client, "ann@example.com")

        assert 'method="post"' in text
        assert all("ann@example.com" not in one.getMessage() for one in own_records(caplog))

    def test_costs_the_same_whatever_the_history(
        self, outbox: Outbox, admin_client: Client
    ) -> None:
        @subscribe("tests.Labelled")
        def file_label() -> None: ...

        Outbox()  # stores the subscription
        history = store(4000, names=("tests.Packed",), rare="tests.Labelled")
        for term in (history.key, history.correlation, TRACE, str(uuid4()), "nothing"):
            with CaptureQueriesContext(connection) as captured:
                admin_client.post(SEARCH, {"term": term})
            work = max(rows_read(query["sql"]) for query in captured)
            assert work <= MOST_WORK[connection.vendor], term


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records but those of Django's SQL statements, which only DEBUG settings write."""
    return [one for one in caplog.records if one.name != "django.db.backends"]


class TestADelivery:
    def test_of_another_kind_is_not_found(self, outbox: Outbox, admin_client: Client) -> None:
        packed(outbox)
        unknown = Delivery.objects.order_by("-pk").values_list("pk", flat=True)[0] + 1

        assert "Nothing that you may view" in search(admin_client, str(unknown))
