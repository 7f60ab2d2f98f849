"""The scripts and settings of the pages about sources work as printed, against real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from outbox import DomainEvent, events, subscriptions
from outbox.models import Event
from outbox.sources import ReceivedMessage
from outbox.sources.base import Source
from outbox.sources.configuration import SourceConfig, configured
from tests.docs.pages import Page
from tests.processes import eventually
from tests.servers.kafka import KafkaServer

GENERAL = Page("docs/how-to/receive-from-another-system.md")
KAFKA = Page("docs/how-to/receive-from-kafka.md")
HTTP = Page("docs/how-to/receive-over-http.md")

pytestmark = pytest.mark.once


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Declare the event and the handler of the general page; return their names."""
    monkeypatch.setattr(events, "registry", dict(events.registry))
    monkeypatch.setattr(subscriptions, "registry", list(subscriptions.registry))
    found: dict[str, Any] = {"__name__": "orders.events"}
    for block in GENERAL.blocks("python")[:2]:
        exec(compile(block, GENERAL.name, "exec", dont_inherit=True), found)
    return found


def entry_of(page: Page) -> dict[str, Any]:
    """Return the source of the settings that the page shows."""
    (text,) = (one for one in page.blocks("python") if one.startswith("OUTBOX = {"))
    found: dict[str, Any] = {}
    exec(text, found)
    entry: dict[str, Any] = found["OUTBOX"]["SOURCES"]["billing"]
    return entry


def configure(settings: Settings, entry: dict[str, Any]) -> SourceConfig:
    settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {"billing": entry}}
    return configured()["billing"]


def run(script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestThePageOfEachSystem:
    @pytest.mark.parametrize("name", ["from-kafka", "from-sqs", "from-nats", "from-rabbitmq"])
    def test_has_settings_of_a_source_that_a_process_receives(self, name: str, settings: Settings):
        page = Page(f"docs/how-to/receive-{name}.md")

        assert configure(settings, entry_of(page)).is_pulled

    def test_has_settings_of_a_source_that_is_called(self, settings: Settings):
        assert not configure(settings, entry_of(HTTP)).is_pulled


class TestTheGeneralPage:
    def test_has_an_event_and_its_handler(self, names: dict[str, Any]):
        assert issubclass(names["InvoicePaid"], DomainEvent)
        handler = next(one for one in subscriptions.registry if "settle_invoice" in one.name)
        assert handler.selectors == ("billing.InvoicePaid",)


@pytest.mark.processes
class TestThePageOfKafka:
    @pytest.fixture
    def source(self, kafka: KafkaServer, settings: Settings) -> Iterator[Source]:
        entry = entry_of(KAFKA)
        made = configure(
            settings, {**entry, "OPTIONS": {"bootstrap.servers": kafka.bootstrap_servers}}
        ).create()
        assert isinstance(made, Source)
        yield made
        made.close()

    def test_sends_a_message_to_the_topic_that_it_creates(
        self, kafka: KafkaServer, source: Source, names: dict[str, Any]
    ):
        variables = {"KAFKA": kafka.bootstrap_servers}
        run(KAFKA.files()["create_invoices_topic.py"], **variables)
        assert source.check(timeout=30) == []

        assert run(KAFKA.files()["send_invoice.py"], **variables) == "0 messages left\n"

        received: list[ReceivedMessage] = []

        def has_arrived() -> bool:
            received.extend(source.receive(10, timeout=1))
            return bool(received)

        eventually(has_arrived, "the message has arrived")
        content = configured()["billing"].read(received[0])
        assert content is not None
        assert content.type == names["InvoicePaid"].event_type
        assert content.data["order_id"] == received[0].key
        assert Decimal(content.data["amount"]) == Decimal("12.50")


@pytest.mark.django_db(transaction=True)
class TestThePageOfHttp:
    def test_sends_a_message_that_is_stored(
        self, names: dict[str, Any], settings: Settings, live_server: LiveServer
    ):
        configure(settings, entry_of(HTTP))
        (urls,) = (one for one in HTTP.blocks("python") if "urlpatterns" in one)
        found: dict[str, Any] = {}
        exec(urls, found)
        settings.ROOT_URLCONF = tuple(found["urlpatterns"])

        url = f"{live_server.url}/events/billing/"
        answer = run(HTTP.files()["send_invoice.py"], BILLING_URL=url)

        status, message_id = answer.split()
        assert status == "204"
        assert UUID(message_id)
        [event] = Event.objects.filter(name="billing.InvoicePaid")
        assert event.payload["amount"] == "12.50"
