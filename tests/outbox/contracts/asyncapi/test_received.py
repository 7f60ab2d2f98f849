"""Channels of sources: topics, servers without credentials, and messages as they are read."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import json
from collections.abc import Mapping
from typing import Any

import pytest
from django.urls import path

from outbox.contracts.asyncapi import as_text, document
from outbox.contracts.asyncapi.outline import channel_rows
from outbox.sources import ExternalMessage, ReceivedMessage
from outbox.sources.configuration import configured
from outbox.sources.http import receive
from outbox.sources.reading import read
from tests.asyncapi_tools import faults_by_json_schema, faults_by_parser, invalid_examples
from tests.outbox.sources.messages import PAID, configure, declare_invoice_paid

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

urlpatterns = [path("events/<str:source>/", receive)]

KAFKA = {
    "BACKEND": "outbox.sources.kafka.KafkaSource",
    "TOPICS": ["billing.invoices", "billing.refunds"],
    "GROUP": "shop",
    "OPTIONS": {"bootstrap.servers": "kafka:9092", "sasl.password": "hunter2"},
}
HTTP = {
    "BACKEND": "outbox.sources.http.HttpSource",
    "TOPICS": [],
    "GROUP": "",
    "OPTIONS": {"SECRETS": ["whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="]},
}


@pytest.fixture(autouse=True)
def invoice_paid(own_registry: None) -> None:
    declare_invoice_paid()


def external(settings: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    configure(settings, **keys)
    return document(internal=False)


def of_mapper(message: ReceivedMessage) -> ExternalMessage:
    return ExternalMessage(id=message.position, type=PAID, data=json.loads(message.body))


class TestTheChannelsOfASource:
    def test_are_its_topics(self, settings: Any):
        made = external(settings, KAFKA)

        assert [one["address"] for one in made["channels"].values()] == KAFKA["TOPICS"]
        assert list(made["servers"].values()) == [{"host": "kafka:9092", "protocol": "kafka"}]
        assert "hunter2" not in as_text(made)

    def test_are_received_in_its_group(self, settings: Any):
        first = next(iter(external(settings, KAFKA)["operations"].values()))

        assert (first["action"], first["title"]) == ("receive", "receive from billing")
        assert first["bindings"]["kafka"]["groupId"]["enum"] == ["shop"]

    @pytest.mark.parametrize(
        ("keys", "server"),
        [
            (
                {
                    "BACKEND": "outbox.sources.aws.SqsSource",
                    "TOPICS": ["https://sqs.eu-west-1.amazonaws.com/123456789012/invoices"],
                    "OPTIONS": {"aws_secret_access_key": "hunter2"},
                },
                {"host": "sqs.eu-west-1.amazonaws.com", "protocol": "sqs"},
            ),
            (
                {
                    "BACKEND": "outbox.sources.nats.NatsSource",
                    "TOPICS": ["billing.>"],
                    "OPTIONS": {"servers": "nats://user:hunter2@nats:4222"},
                },
                {"host": "nats:4222", "protocol": "nats"},
            ),
            (
                {
                    "BACKEND": "outbox.sources.amqp.AmqpSource",
                    "TOPICS": ["invoices"],
                    "OPTIONS": {"url": "amqps://user:hunter2@rabbitmq/billing"},
                },
                {"host": "rabbitmq", "pathname": "/billing", "protocol": "amqps"},
            ),
        ],
        ids=["SQS", "NATS", "RabbitMQ"],
    )
    def test_are_described_without_a_connection_and_without_credentials(
        self, settings: Any, keys: dict[str, Any], server: dict[str, str]
    ):
        made = external(settings, keys)

        assert list(made["servers"].values()) == [server]
        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []
        assert "hunter2" not in as_text(made)

    def test_of_http_are_the_path_that_the_other_system_calls(self, settings: Any):
        settings.ROOT_URLCONF = __name__

        made = external(settings, HTTP)

        [channel] = made["channels"].values()
        assert channel["address"] == "/events/billing/"
        assert [one["host"] for one in made["servers"].values()] == ["{host}"]
        assert faults_by_parser(made) == []

    def test_of_http_need_a_signature(self, settings: Any):
        made = external(settings, HTTP)

        message = made["components"]["messages"]["received.billing.InvoicePaid"]
        signed = {"webhook-id", "webhook-timestamp", "webhook-signature"}
        assert signed <= set(message["headers"]["required"])

    def test_of_http_without_a_url_have_no_address(self, settings: Any):
        [channel] = external(settings, HTTP)["channels"].values()

        assert channel["address"] is None
        assert next(channel_rows(document(internal=False))).address == "billing"

    def test_of_http_in_a_project_without_urls_have_no_address(self, settings: Any):
        """Failed with AttributeError."""
        del settings.ROOT_URLCONF

        [channel] = external(settings, HTTP)["channels"].values()

        assert channel["address"] is None


class TestAMessage:
    def test_is_valid_with_its_example(self, settings: Any):
        made = external(settings, KAFKA)

        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []

    def test_has_the_type_as_its_name_and_as_a_header(self, settings: Any):
        made = external(settings, KAFKA)

        message = made["components"]["messages"]["received.billing.InvoicePaid"]
        assert (message["name"], message["summary"]) == (PAID, "An invoice was paid.")
        assert message["headers"]["properties"]["ce_type"]["const"] == PAID

    def test_has_an_example_that_the_source_can_read(self, settings: Any):
        """So the schema is that of the reader."""
        made = external(settings, {})
        message = made["components"]["messages"]["received.billing.InvoicePaid"]
        envelope = {
            "specversion": "1.0",
            "id": "1",
            "source": "/billing",
            "type": message["name"],
            "data": message["examples"][0]["payload"],
        }

        reading = read(
            ReceivedMessage(position="1", topic="invoices", body=json.dumps(envelope).encode()),
            configured()["billing"],
        )

        assert reading is not None
        assert reading.event is not None
        assert reading.event is not None
        assert reading.event.event_name == "billing.InvoicePaid"

    def test_of_a_mapper_has_no_headers(self, settings: Any):
        made = external(settings, {**KAFKA, "MAPPER": f"{__name__}.of_mapper"})

        message = made["components"]["messages"]["received.billing.InvoicePaid"]
        assert "headers" not in message
        assert "Read by the mapper" in message["description"]


class TestTheInternalChannel:
    def test_is_stored_by_the_source(self, settings: Any):
        configure(settings, **KAFKA)

        operations = document()["operations"]

        assert operations["store.billing.InvoicePaid"]["title"] == (
            "store billing.InvoicePaid from billing"
        )
        assert "emit.billing.InvoicePaid" not in operations
