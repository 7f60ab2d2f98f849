"""Reports of settlements in the document: the received ones, and the published ones."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import Field
from pytest_django import Settings

from outbox.contracts.asyncapi import document
from outbox.settlements.events import SETTLED_TYPE
from outbox.settlements.recording import Report
from outbox.sources import ExternalEvent, ExternalMessage, ReceivedMessage
from outbox.sources.configuration import configured
from outbox.sources.reading import read
from tests.asyncapi_tools import faults_by_json_schema, faults_by_parser, invalid_examples
from tests.outbox.sources.messages import declare_invoice_paid

#: It needs no PostgreSQL.
pytestmark = [pytest.mark.once, pytest.mark.usefixtures("own_registry")]

OPTIONS = {"bootstrap.servers": "kafka:9092"}
SOURCE = {
    "BACKEND": "outbox.sources.kafka.KafkaSource",
    "TOPICS": ["billing.reports"],
    "GROUP": "shop",
    "OPTIONS": OPTIONS,
}
SINK = {
    "BACKEND": "outbox.sinks.kafka.KafkaSink",
    "EVENTS": ["orders.*"],
    "TOPIC": "shop.orders",
    "OPTIONS": OPTIONS,
}


def external(settings: Settings, *, sink: Any = SINK, source: Any = SOURCE) -> dict[str, Any]:
    settings.OUTBOX = {"SINKS": {"out": sink}, "SOURCES": {"billing": source}, "SOURCE": "/shop"}
    return document(internal=False)


def expecting(settings: Settings, **more: Any) -> dict[str, Any]:
    """Return the document of a project whose sink expects reports of two consumers."""
    sink = {**SINK, "CONSUMERS": ["stock", "billing"]}
    return external(settings, sink=sink, source={**SOURCE, **more})


def report(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["components"]["messages"]["received.billing.outbox.Settled"]
    return found


def of_mapper(message: ReceivedMessage) -> ExternalMessage:
    return ExternalMessage(id=message.position, type=SETTLED_TYPE, data=json.loads(message.body))


class TestAReceivedReport:
    def test_is_a_message_of_the_source_if_a_sink_has_consumers(self, settings: Settings):
        made = expecting(settings)

        channel = made["channels"]["billing.billing.reports"]
        operation = made["operations"]["receive.billing.billing.reports"]
        assert list(channel["messages"]) == ["outbox.Settled"]
        assert operation["action"] == "receive"
        assert [one["$ref"] for one in operation["messages"]] == [
            "#/channels/billing.billing.reports/messages/outbox.Settled"
        ]

    def test_is_not_listed_without_consumers(self, settings: Settings):
        made = external(settings)

        assert made["channels"]["billing.billing.reports"]["messages"] == {}

    def test_names_the_consumers_and_its_cloudevents_type(self, settings: Settings):
        found = report(expecting(settings))

        assert found["name"] == SETTLED_TYPE
        assert found["headers"]["properties"]["ce_type"]["const"] == SETTLED_TYPE
        assert found["description"].startswith(
            "It is recorded, and not stored as an event. Expected of: billing, stock. "
        )

    def test_follows_the_events_of_its_source(self, settings: Settings):
        declare_invoice_paid()

        channel = expecting(settings)["channels"]["billing.billing.reports"]

        assert list(channel["messages"]) == ["billing.InvoicePaid", "outbox.Settled"]

    def test_is_listed_once_if_the_code_declares_it_as_an_external_event(self, settings: Settings):
        class EventSettled(ExternalEvent, source="billing", type=SETTLED_TYPE, key="settled"):
            settled: str = Field(alias="event")
            consumer: str

        channel = expecting(settings)["channels"]["billing.billing.reports"]

        assert list(channel["messages"]) == ["billing.EventSettled"]

    def test_has_an_example_that_the_source_reads_as_a_report(self, settings: Settings):
        payload = report(expecting(settings))["examples"][0]["payload"]
        envelope = {
            "specversion": "1.0",
            "id": "1",
            "source": "/billing",
            "type": SETTLED_TYPE,
            "data": payload,
        }

        reading = read(
            ReceivedMessage(position="1", topic="reports", body=json.dumps(envelope).encode()),
            configured()["billing"],
        )

        assert reading is not None
        assert reading.report == Report(UUID(payload["event"]), "billing")

    def test_of_a_mapper_has_no_headers(self, settings: Settings):
        found = report(expecting(settings, MAPPER=f"{__name__}.of_mapper"))

        assert "headers" not in found
        assert "Read by the mapper" in found["description"]

    def test_is_valid(self, settings: Settings):
        made = expecting(settings)

        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []


class TestAPublishedReport:
    def test_is_a_message_of_the_sink_that_publishes_it(self, settings: Settings):
        sink = {**SINK, "EVENTS": ["outbox.Settled"], "TOPIC": "billing.reports"}

        made = external(settings, sink=sink, source={**SOURCE, "SETTLES_AS": "billing"})

        channel = made["channels"]["out.billing.reports"]
        assert list(channel["messages"]) == [SETTLED_TYPE]
        assert made["operations"]["publish.out.billing.reports"]["action"] == "send"
        message = made["components"]["messages"][f"out.{SETTLED_TYPE}"]
        assert message["headers"]["properties"]["ce_type"]["const"] == SETTLED_TYPE
        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []
