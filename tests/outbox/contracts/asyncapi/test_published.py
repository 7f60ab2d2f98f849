"""Channels of sinks: destinations, servers without credentials, and messages as they are sent."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from outbox import DomainEvent, Sensitive, tracing
from outbox.contracts.asyncapi import as_text, document
from outbox.events import EventRecord
from outbox.sinks import amqp_link
from outbox.sinks.base import SinkMessage
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.messages import MessageParts, message_of
from outbox.sinks.nats.sink import MESSAGE_ID
from tests.asyncapi_tools import faults_by_json_schema, faults_by_parser, invalid_examples
from tests.outbox.sinks.sent import event_record

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

MEMORY = "tests.outbox.sinks.memory.MemorySink"
KEY = "The event's key: id of the aggregate that it is about."
BOTH = ["tests.ParcelLost", "tests.ParcelSent"]
STRUCTURED = "tests.outbox.sinks.memory.StructuredSink"


class Line(BaseModel):
    sku: str
    note: Sensitive[str | None] = None


class Sender(BaseModel):
    name: Sensitive[str]
    city: str


@pytest.fixture(autouse=True)
def parcels(own_registry: None) -> None:
    """Events with sensitive fields in each position."""

    class ParcelSent(DomainEvent, key="parcel_id"):
        """A parcel left the house."""

        parcel_id: UUID
        email: Sensitive[str]
        sender: Sender
        lines: list[Line]
        phones: list[Sensitive[str]]
        place: tuple[float, Sensitive[float]]
        notes: dict[str, Sensitive[str]]
        by_name: dict[Sensitive[str], int]
        guest: Sensitive[str] | int = 0

    class ParcelLost(DomainEvent, key="parcel_id"):
        parcel_id: UUID


def as_line(event: EventRecord, *, topic: str) -> MessageParts:
    return MessageParts(body=f"{event.name} {event.key}".encode())


def as_total(event: EventRecord, *, topic: str) -> MessageParts:
    """Map a field that the payloads of these tests do not have."""
    return MessageParts(body=str(event.payload["total"]).encode())


@pytest.fixture
def sinks(settings: Any) -> Any:
    """Return a function that configures one sink, "out", and returns the document."""

    def configured(**keys: Any) -> dict[str, Any]:
        sink = {"BACKEND": MEMORY, "EVENTS": BOTH, **keys}
        settings.OUTBOX = {"SINKS": {"out": sink}, "SOURCE": "/parcels"}
        return document(internal=False)

    return configured


def sent(made: dict[str, Any], label: str = "tests.ParcelSent.v1") -> dict[str, Any]:
    found: dict[str, Any] = made["components"]["messages"][f"out.{label}"]
    return found


class TestTheChannelsOfASink:
    def test_are_its_destinations(self, sinks: Any):
        made = sinks(TOPIC="parcels.{event}.{key}")

        assert {one["address"] for one in made["channels"].values()} == {
            "parcels.ParcelLost.{key}",
            "parcels.ParcelSent.{key}",
        }
        assert all("key" in one["parameters"] for one in made["channels"].values())

    def test_share_a_destination(self, sinks: Any):
        made = sinks(TOPIC="parcels")

        [channel] = made["channels"].values()
        [operation] = made["operations"].values()
        assert list(channel["messages"]) == ["tests.ParcelLost.v1", "tests.ParcelSent.v1"]
        assert operation["action"] == "send"
        assert len(operation["messages"]) == 2

    def test_have_only_the_events_that_the_sink_publishes(self, sinks: Any):
        made = sinks(EVENTS=["tests.ParcelLost"])

        assert list(made["components"]["messages"]) == ["out.tests.ParcelLost.v1"]


class TestAMessage:
    @pytest.mark.parametrize("backend", [MEMORY, STRUCTURED])
    @pytest.mark.parametrize("sensitive", [True, False])
    @pytest.mark.parametrize("form", ["cloudevents", "debezium"])
    def test_has_the_schema_and_example_of_what_is_sent(
        self, sinks: Any, backend: str, sensitive: bool, form: str
    ):
        """Its example is what the sink would send, so schema and sink agree."""
        made = sinks(BACKEND=backend, SENSITIVE=sensitive, FORMAT=form)

        assert all(one.get("examples") for one in made["components"]["messages"].values())
        assert invalid_examples(made) == []

    @pytest.mark.parametrize("backend", [MEMORY, STRUCTURED])
    def test_is_valid_by_asyncapis_validators(self, sinks: Any, backend: str):
        made = sinks(BACKEND=backend)

        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []

    def test_in_binary_encoding_has_the_attributes_as_headers(self, sinks: Any):
        message = sent(sinks())

        headers = message["headers"]["properties"]
        assert headers["ce-type"]["const"] == "tests.ParcelSent.v1"
        assert headers["ce-source"]["const"] == "/parcels"
        assert set(message["examples"][0]["headers"]) <= set(headers)
        assert message["contentType"] == "application/json"

    def test_in_structured_encoding_has_an_envelope(self, sinks: Any):
        message = sent(sinks(BACKEND=STRUCTURED))

        assert message["contentType"] == "application/cloudevents+json"
        assert message["payload"]["properties"]["type"]["const"] == "tests.ParcelSent.v1"
        assert message["examples"][0]["payload"]["specversion"] == "1.0"

    def test_has_no_sensitive_field(self, sinks: Any):
        made = sinks()

        payload = sent(made)["examples"][0]["payload"]
        schema = made["components"]["schemas"]["tests.ParcelSent.v1.without-sensitive"]
        assert payload == {
            "parcel_id": payload["parcel_id"],
            "sender": {"city": "city"},
            "lines": [{"sku": "sku"}],
            "phones": [],
            "place": [1, None],
            "notes": {},
        }
        assert set(payload) == set(schema["properties"])
        assert "x-sensitive" not in json.dumps(schema)

    def test_has_sensitive_fields_if_the_sink_allows_them(self, sinks: Any):
        payload = sent(sinks(SENSITIVE=True))["examples"][0]["payload"]

        assert payload["email"] == "email"
        assert payload["sender"] == {"name": "name", "city": "city"}

    def test_of_a_mapper_shows_only_what_the_mapper_makes(self, sinks: Any):
        message = sent(sinks(FORMAT=f"{__name__}.as_line"), "tests.ParcelLost.v1")

        assert "payload" not in message
        assert message["examples"][0]["payload"].startswith("tests.ParcelLost 0197f2a4-")
        assert __name__ in message["description"]

    def test_of_a_mapper_that_fails_for_an_example_has_none(self, sinks: Any):
        made = sinks(FORMAT=f"{__name__}.as_total")

        message = sent(made, "tests.ParcelLost.v1")
        assert "examples" not in message
        assert "The mapper makes no message" in message["x-no-example"]
        assert faults_by_parser(made) == []


class TestASinkOfTheOutbox:
    @pytest.mark.parametrize(
        ("keys", "server"),
        [
            (
                {
                    "BACKEND": "outbox.sinks.kafka.KafkaSink",
                    "TOPIC": "shop.{app}",
                    "OPTIONS": {"bootstrap.servers": "kafka:9092", "sasl.password": "hunter2"},
                },
                {"host": "kafka:9092", "protocol": "kafka"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.aws.SnsSink",
                    "TOPIC": "arn:aws:sns:eu-west-1:123456789012:parcels.fifo",
                    "OPTIONS": {"aws_secret_access_key": "hunter2"},
                },
                {"host": "sns.eu-west-1.amazonaws.com", "protocol": "sns"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.aws.SqsSink",
                    "TOPIC": "https://sqs.eu-west-1.amazonaws.com/123456789012/parcels",
                },
                {"host": "sqs.eu-west-1.amazonaws.com", "protocol": "sqs"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.nats.NatsSink",
                    "TOPIC": "{app}.{event}.{key}",
                    "OPTIONS": {"servers": "nats://user:hunter2@nats:4222"},
                },
                {"host": "nats:4222", "protocol": "nats"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.amqp.AmqpSink",
                    "OPTIONS": {"url": "amqp://user:hunter2@rabbitmq/shop", "exchange": "shop"},
                },
                {"host": "rabbitmq", "pathname": "/shop", "protocol": "amqp"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.redis_streams.RedisStreamSink",
                    "OPTIONS": {"url": "redis://:hunter2@redis:6379/1"},
                },
                {"host": "redis:6379", "pathname": "/1", "protocol": "redis"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.http.HttpSink",
                    "TOPIC": "https://user:hunter2@example.com/in/{key}?token=hunter2",
                    "OPTIONS": {"secrets": ["whsec_hunter2"]},
                },
                {"host": "example.com", "protocol": "https"},
            ),
            (
                {
                    "BACKEND": "outbox.sinks.http.HttpSink",
                    "TOPIC": "https://{key}.example.com/events",
                    "OPTIONS": {"secrets": ["whsec_hunter2"]},
                },
                {
                    "host": "{key}.example.com",
                    "protocol": "https",
                    "variables": {"key": {"description": KEY}},
                },
            ),
            (
                {
                    "BACKEND": "outbox.sinks.nats.NatsSink",
                    "OPTIONS": {"servers": "nats://{zone}.nats:4222"},
                },
                {
                    "host": "{zone}.nats:4222",
                    "protocol": "nats",
                    "variables": {"zone": {}},
                },
            ),
        ],
        ids=[
            *("Kafka", "SNS", "SQS", "NATS", "RabbitMQ", "Redis", "HTTP"),
            *("HTTP to a host by key", "a variable of the project"),
        ],
    )
    def test_is_described_without_a_connection_and_without_credentials(
        self, sinks: Any, keys: dict[str, Any], server: dict[str, Any]
    ):
        made = sinks(**keys)

        assert list(made["servers"].values()) == [server]
        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []
        assert "hunter2" not in as_text(made)


def sent_by(name: str) -> SinkMessage:
    """Return the message that the sink sends for a replayed event with a cause."""
    record = replace(event_record("7"), name="tests.ParcelLost", causation_id=UUID(int=7))
    if tracing.is_on():
        parent, state = f"00-{'4' * 32}-{'1' * 16}-01", "rojo=00f067aa0ba902b7"
        record = replace(record, traceparent=parent, tracestate=state)
    config = configured()[name]
    return message_of(config, record, sink=sink_of(config), replays=1)


def by_http(name: str) -> set[str]:
    sink: Any = sink_of(configured()[name])
    return {header for header, _value in sink._headers(sent_by(name))} - {"user-agent"}


def by_amqp(name: str) -> set[str]:
    return set(amqp_link._encoded(sent_by(name)).headers or ())


def by_redis(name: str) -> set[str]:
    sink: Any = sink_of(configured()[name])
    fields = sink._xadd(sent_by(name))
    return set(fields[fields.index("*") + 1 :: 2]) - {"data"}


def by_nats(name: str) -> set[str]:
    return {*sent_by(name).headers, MESSAGE_ID}


def unchanged(name: str) -> set[str]:
    return set(sent_by(name).headers)


SECRET = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="
BACKENDS: dict[str, tuple[dict[str, Any], Callable[[str], set[str]]]] = {
    "Kafka": (
        {
            "BACKEND": "outbox.sinks.kafka.KafkaSink",
            "OPTIONS": {"bootstrap.servers": "kafka:9092"},
        },
        unchanged,
    ),
    "SQS": (
        {"BACKEND": "outbox.sinks.aws.SqsSink", "OPTIONS": {"region_name": "eu-west-1"}},
        unchanged,
    ),
    "NATS": ({"BACKEND": "outbox.sinks.nats.NatsSink"}, by_nats),
    "RabbitMQ": (
        {
            "BACKEND": "outbox.sinks.amqp.AmqpSink",
            "OPTIONS": {"url": "amqp://rabbitmq/", "exchange": "shop"},
        },
        by_amqp,
    ),
    "Redis": (
        {
            "BACKEND": "outbox.sinks.redis_streams.RedisStreamSink",
            "OPTIONS": {"url": "redis://redis"},
        },
        by_redis,
    ),
    "HTTP": (
        {
            "BACKEND": "outbox.sinks.http.HttpSink",
            "TOPIC": "https://example.com/in",
            "OPTIONS": {"secrets": [SECRET]},
        },
        by_http,
    ),
    "HTTP without a signature": (
        {
            "BACKEND": "outbox.sinks.http.HttpSink",
            "TOPIC": "https://example.com/in",
            "OPTIONS": {"secrets": []},
        },
        by_http,
    ),
}


class TestTheHeaders:
    """They are those that the client library is given."""

    @pytest.mark.parametrize("encoding", ["binary", "structured"])
    @pytest.mark.parametrize("is_traced", [True, False])
    @pytest.mark.parametrize("name", BACKENDS)
    def test_are_those_of_a_sent_message(
        self, settings: Any, name: str, is_traced: bool, encoding: str
    ):
        keys, headers_of = BACKENDS[name]
        sink = {"EVENTS": BOTH, "TOPIC": "parcels", "ENCODING": encoding, **keys}
        settings.OUTBOX = {"SINKS": {"out": sink}, "SOURCE": "/parcels", "TRACING": is_traced}

        made = document(internal=False)

        message = sent(made, "tests.ParcelLost.v1")
        described = message["headers"]
        expected = headers_of("out")
        assert set(described["properties"]) == expected
        assert set(described["required"]) <= set(message["examples"][0]["headers"]) <= expected
        assert invalid_examples(made) == []

    def test_have_the_address_of_the_schema_only_if_one_is_set(self, sinks: Any):
        assert "ce-dataschema" not in sent(sinks())["headers"]["properties"]

    def test_have_no_trace_state_in_an_envelope_without_tracing(self, sinks: Any):
        assert "tracestate" not in sent(sinks(BACKEND=STRUCTURED))["payload"]["properties"]


class TestAServerWithoutAName:
    def test_has_a_variable_as_its_host(self, sinks: Any):
        made = sinks(BACKEND=MEMORY)

        [server] = made["servers"].values()
        assert server["host"] == "{host}"
        assert "do not name" in server["variables"]["host"]["description"]
        assert faults_by_parser(made) == []
        assert faults_by_json_schema(made) == []

    def test_of_amazon_has_a_variable_as_its_region(self, sinks: Any):
        made = sinks(BACKEND="outbox.sinks.aws.SqsSink", TOPIC="parcels")

        [server] = made["servers"].values()
        assert server["host"] == "sqs.{region}.amazonaws.com"
        assert list(server["variables"]) == ["region"]
        assert faults_by_parser(made) == []


class TestTwoSinks:
    def test_may_have_the_same_destination_on_two_servers(self, settings: Any):
        sink = {"BACKEND": MEMORY, "EVENTS": ["tests.ParcelLost"], "TOPIC": "parcels"}
        settings.OUTBOX = {"SINKS": {"a": sink, "b": sink}, "SOURCE": "/parcels"}

        made = document()

        assert {"a.parcels", "b.parcels"} <= set(made["channels"])
        assert faults_by_parser(made) == []

    def test_are_apart_from_the_outbox(self, settings: Any):
        """Seen to fail with a sink's server under the name of the outbox's own."""
        sink = {"BACKEND": MEMORY, "EVENTS": ["tests.ParcelLost"], "TOPIC": "parcels"}
        settings.OUTBOX = {"SINKS": {"outbox": sink}, "SOURCE": "/parcels"}

        servers = document()["servers"]

        assert [one["protocol"] for one in servers.values()] == ["outbox", "memory"]


class TestCredentials:
    def test_are_not_in_the_document(self, sinks: Any):
        made = sinks(
            OPTIONS={"url": "amqp://user:hunter2@host/", "password": "hunter2", "token": "hunter2"}
        )

        assert "hunter2" not in as_text(made)
