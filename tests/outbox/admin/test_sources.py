"""The page of the sources: condition, lag, counts and settings of each."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from outbox.deliveries import heartbeat
from outbox.models import Delivery
from outbox.sources.configuration import SourceConfig
from outbox.sources.reading_again import subscribe_reader
from outbox.sources.state import flush, note_failure, note_lag, note_pause
from outbox.sources.storing import store
from outbox.sources.unreadable import HANDLER
from outbox.testing import Outbox
from tests.outbox.parcels import client_with, text_of
from tests.outbox.sources.messages import PAID, configure, declare_invoice_paid, message

PAGE = reverse("admin:outbox_event_sources")
OVERVIEW = reverse("admin:outbox_event_changelist")
PASSWORD = "hunter2"


@pytest.fixture
def billing(
    own_registry: None, no_nudge: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> SourceConfig:
    monkeypatch.setattr(heartbeat, "_written", {})
    declare_invoice_paid()
    subscribe_reader()
    return configure(settings, OPTIONS={"password": PASSWORD})


@pytest.fixture
def running(billing: SourceConfig) -> SourceConfig:
    heartbeat.beat(heartbeat.Kind.RECEIVER, "billing@host.1", queues=["billing"])
    return billing


def cells(client: Client) -> dict[str, object]:
    """Return the cells of the row of the source by column, without its name."""
    context = client.get(PAGE).context
    [row] = context["sources"]
    counts = dict(zip(map(str, context["columns"]), row.counts, strict=True))
    own = {"Status": str(row.badge[1]), "Lag": row.status.lag, "Dead letters": row.dead}
    return {**own, **counts}


class TestThePage:
    def test_shows_condition_lag_and_counts(self, running: SourceConfig, admin_client: Client):
        outbox = Outbox()
        store(running, [message(1), message(1), message(2, body=b"{")])
        outbox.deliver_all(raise_errors=False)
        note_lag("billing", 1200)
        flush()

        text = text_of(admin_client, PAGE)

        found = cells(admin_client)
        assert (found["Status"], found["Lag"], found["Dead letters"]) == ("running", 1200, 1)
        shown = {name: number for name, number in found.items() if number == 1}
        assert set(shown) == {"Stored", "Duplicates", "Unreadable", "Dead letters"}
        assert "1 process receives it." in text
        assert re.search(r"<td[^>]*>1,?200</td>", text)
        assert f"?handler={HANDLER}" in text

    def test_shows_the_time_of_the_last_message(self, running: SourceConfig, admin_client: Client):
        before = admin_client.get(PAGE).context["sources"][0].status.last_at
        store(running, [message(1)])
        flush()

        [row] = admin_client.get(PAGE).context["sources"]

        assert before is None
        assert f'datetime="{row.status.last_at.isoformat()}"' in text_of(admin_client, PAGE)

    def test_shows_the_settings_and_events_without_credentials(
        self, running: SourceConfig, admin_client: Client
    ):
        text = text_of(admin_client, PAGE)

        assert "tests.outbox.sources.messages.NoSource" in text
        assert "invoices" in text
        assert "billing.InvoicePaid" in text
        assert PAID in text
        assert "are kept" in text
        assert PASSWORD not in text

    def test_names_the_command_that_starts_a_process(
        self, billing: SourceConfig, admin_client: Client
    ):
        text = text_of(admin_client, PAGE)

        assert cells(admin_client)["Status"] == "not received"
        assert "<code>manage.py outbox receive billing</code>" in text

    def test_shows_a_failure_to_those_who_may_see_failures(self, running: SourceConfig):
        note_failure("billing", "No broker answers.")

        seen = text_of(client_with("view_event", "view_delivery"), PAGE)
        hidden = text_of(client_with("view_event"), PAGE)

        assert "No broker answers." in seen
        assert "It cannot receive" in hidden
        assert "No broker answers." not in hidden

    def test_shows_a_pause(self, running: SourceConfig, admin_client: Client):
        note_pause("billing", is_paused=True)

        assert cells(admin_client)["Status"] == "paused"
        assert "owed deliveries. It continues below half of them." in text_of(admin_client, PAGE)

    def test_explains_invalid_settings(self, settings: Settings, admin_client: Client):
        configured: dict[str, Any] = {"SOURCES": {"billing": {"BACKEND": "no.such"}}}
        settings.OUTBOX = configured

        assert 'OUTBOX["SOURCES"]["billing"]' in text_of(admin_client, PAGE).replace("&quot;", '"')

    def test_explains_that_there_is_no_source(self, settings: Settings, admin_client: Client):
        settings.OUTBOX = {}

        assert "No source is configured." in text_of(admin_client, PAGE)

    def test_counts_the_dead_letters_of_each_source_only(
        self, running: SourceConfig, admin_client: Client
    ):
        outbox = Outbox()
        store(running, [message(1, body=b"{"), message(2, body=b"[")])
        outbox.deliver_all(raise_errors=False)
        event = Delivery.objects.select_related("event").earliest("pk").event
        type(event).objects.filter(pk=event.pk).update(payload={**event.payload, "source": "other"})

        assert cells(admin_client)["Dead letters"] == 1


class TestTheNavigation:
    def test_has_the_page_if_a_source_is_configured(
        self, billing: SourceConfig, settings: Settings, admin_client: Client
    ):
        with_source = text_of(admin_client, OVERVIEW)
        settings.OUTBOX = {}
        without = text_of(admin_client, OVERVIEW)

        assert f'<a href="{PAGE}">' in with_source
        assert f'<a href="{PAGE}">' not in without
