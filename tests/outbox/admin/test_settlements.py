"""The list of settlements, and the late ones on the overview."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from outbox.models import Settlement
from outbox.sinks import configuration
from outbox.testing import Outbox
from tests.outbox.parcels import client_with, listed, text_of
from tests.outbox.settlements.world import (
    EVENT,
    configure_sinks,
    emit_order,
    owe_settlements,
    publish,
    report,
)

SETTLEMENTS = reverse("admin:outbox_settlement_changelist")
OVERVIEW = reverse("admin:outbox_minute_changelist")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def consumers(own_registry: None, settings: Settings) -> Iterator[None]:
    """The sinks "log" and "audit" have the consumers "billing" and "stock"."""
    configure_sinks(
        settings,
        log={"EVENTS": [EVENT], "CONSUMERS": ["billing"]},
        audit={"EVENTS": ["shops.Closed"], "CONSUMERS": ["stock", "billing"]},
    )
    yield
    configuration.close_sinks()


@pytest.fixture
def owing(consumers: None) -> None:
    """One settlement in each state: missing, late, waiting, settled, in the order of their ids."""
    owe_settlements()
    event = emit_order()
    publish()
    report(event)


def states(client: Client, **query: str) -> list[str]:
    return [
        Settlement.objects.get(pk=pk).state
        for pk in listed(client, SETTLEMENTS + "?" + "&".join(f"{k}={v}" for k, v in query.items()))
    ]


class TestTheList:
    def test_shows_the_newest_settlement_first(self, owing: None, admin_client: Client):
        assert states(admin_client) == ["settled", "open", "open", "missing"]

    def test_links_event_timeline_and_delivery(self, consumers: None, admin_client: Client):
        event = emit_order("order-7")
        publish()
        row = Settlement.objects.get(event=event)

        text = text_of(admin_client, SETTLEMENTS)

        assert reverse("admin:outbox_event_change", args=[row.delivery.event_id]) in text
        assert reverse("admin:outbox_delivery_change", args=[row.delivery_id]) in text
        assert reverse("admin:outbox_event_timeline") + "?q=order-7" in text
        assert "sinks.log" in text

    def test_shows_the_state_in_the_words_of_the_timeline(self, owing: None, admin_client: Client):
        text = text_of(admin_client, SETTLEMENTS)

        assert "settlement missing" in text
        assert "settlement due in" in text
        assert ", after 1 replay" in text
        assert "done after" in text

    def test_has_a_page_for_each_settlement(self, owing: None, admin_client: Client):
        row = Settlement.objects.earliest("pk")

        text = text_of(admin_client, reverse("admin:outbox_settlement_change", args=[row.pk]))

        assert "settlement missing" in text

    def test_without_a_settlement_names_the_setting(self, own_registry: None, admin_client: Client):
        assert "A sink with CONSUMERS expects one" in text_of(admin_client, SETTLEMENTS)

    @pytest.mark.parametrize("page", ["add", "delete"])
    def test_offers_no_change(self, owing: None, admin_client: Client, page: str):
        row = Settlement.objects.earliest("pk")
        args = [] if page == "add" else [row.pk]

        answer = admin_client.post(reverse(f"admin:outbox_settlement_{page}", args=args))

        assert answer.status_code == 403

    def test_pages_by_key(
        self, consumers: None, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.admin.SettlementAdmin.list_per_page", 2)
        for _number in range(3):
            emit_order()
        publish()
        newest, middle, oldest = Settlement.objects.order_by("-pk").values_list("pk", flat=True)

        assert listed(admin_client, SETTLEMENTS) == [newest, middle]
        assert listed(admin_client, f"{SETTLEMENTS}?older={middle}") == [oldest]


class TestAFilter:
    @pytest.mark.parametrize(
        ("state", "found"),
        [
            ("waiting", ["open"]),
            ("late", ["open"]),
            ("missing", ["missing"]),
            ("settled", ["settled"]),
        ],
    )
    def test_keeps_one_state(self, owing: None, admin_client: Client, state: str, found: list[str]):
        assert states(admin_client, state=state) == found

    def test_counts_a_replayed_settlement_as_late(self, owing: None, admin_client: Client):
        [late] = listed(admin_client, f"{SETTLEMENTS}?state=late")

        assert Settlement.objects.get(pk=late).replays == 1

    def test_keeps_one_consumer(self, owing: None, admin_client: Client):
        assert len(states(admin_client, consumer="billing")) == 4
        assert states(admin_client, consumer="stock") == []

    def test_keeps_one_sink(self, owing: None, admin_client: Client):
        assert len(states(admin_client, sink="sinks.log")) == 4
        assert states(admin_client, sink="sinks.audit") == []

    def test_offers_the_sinks_and_consumers_of_the_settings(
        self, consumers: None, admin_client: Client
    ):
        Outbox()  # stores the subscriptions

        filters = admin_client.get(SETTLEMENTS).context["cl"].filter_specs

        offered = {one.parameter_name: [name for name, _ in one.lookup_choices] for one in filters}

        assert offered["sink"] == ["sinks.audit", "sinks.log"]
        assert offered["consumer"] == ["billing", "stock"]


class TestASearch:
    def test_finds_an_event_and_a_delivery(self, owing: None, admin_client: Client):
        row = Settlement.objects.earliest("pk")

        assert listed(admin_client, f"{SETTLEMENTS}?q={row.event}") == [row.pk]
        assert listed(admin_client, f"{SETTLEMENTS}?q={row.delivery_id}") == [row.pk]

    @pytest.mark.parametrize("term", ["nothing", "9" * 30, "0197f2a4-5c1e-7d3b-8a6f-0123456789ab"])
    def test_finds_nothing_for_other_texts(self, owing: None, admin_client: Client, term: str):
        assert listed(admin_client, f"{SETTLEMENTS}?q={term}") == []


class TestTheOverview:
    def test_counts_late_settlements_and_links_them(self, owing: None, admin_client: Client):
        tiles = admin_client.get(OVERVIEW).context["overview"].tiles

        [tile] = [one for one in tiles if one.name == "late settlements"]
        assert (tile.value, tile.is_bad) == ("1", True)
        assert tile.url == f"{SETTLEMENTS}?state=late"

    def test_has_no_such_number_without_consumers(self, own_registry: None, admin_client: Client):
        tiles = admin_client.get(OVERVIEW).context["overview"].tiles

        assert "late settlements" not in [one.name for one in tiles]


class TestTheNavigation:
    def test_names_the_list_if_a_sink_has_consumers(self, consumers: None):
        client = client_with("view_settlement", "view_minute")

        assert f'href="{SETTLEMENTS}"' in text_of(client, OVERVIEW)

    @pytest.mark.parametrize("sinks", [{}, {"log": {"EVENTS": [EVENT]}}, {"log": None}])
    def test_does_not_name_it_otherwise(
        self, own_registry: None, settings: Settings, sinks: object
    ):
        settings.OUTBOX = {**settings.OUTBOX, "SINKS": sinks}
        client = client_with("view_settlement", "view_delayedevent")

        text = text_of(client, reverse("admin:outbox_delayedevent_changelist"))

        assert f'href="{SETTLEMENTS}"' not in text.partition("outbox-navigation")[2]
