# No `from __future__ import annotations`: pydantic sees the local classes of tests.
"""The message of an event: format, encoding, topic, key, size, and omitted fields."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pytest_django import Settings

from outbox import DomainEvent, PermanentFailure, Sensitive
from outbox.contracts.cloudevents import parse
from outbox.events import EventRecord
from outbox.privacy.omission import UndeclaredField
from outbox.sinks import configuration
from outbox.sinks.base import SinkMessage
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.messages import message_of
from tests.outbox.sinks.memory import MemorySink

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("parcel_sent")]

ID = UUID("0198c0de-0000-7000-8000-000000000001")
SECRET = "hanako@example.co.jp"
PAYLOAD = {"parcel_id": "7", "email": SECRET, "weight": 3}


class EncodingSink(MemorySink):
    """As of HTTP: header values are percent-encoded."""

    percent_encoded: ClassVar[bool] = True


class FewHeadersSink(MemorySink):
    """As of SQS: structured, with three attributes as headers."""

    encoding = "structured"
    header_prefix = ""
    structured_attributes = ("id", "type", "source", "dataschema")

    @classmethod
    def key_in_topic(cls, key: str) -> str:
        return key.replace(" ", "_")


@pytest.fixture
def parcel_sent(own_registry: None) -> None:
    class ParcelSent(DomainEvent, key="parcel_id", version=2):
        parcel_id: str
        email: Sensitive[str]
        weight: int = 1


def record(**facts: Any) -> EventRecord:
    given = {
        "id": ID,
        "name": "tests.ParcelSent",
        "version": 2,
        "key": "parcel 7",
        "payload": PAYLOAD,
        "emitted_at": datetime(2026, 11, 28, 9, 30, tzinfo=UTC),
        "correlation_id": ID,
        "actor": "user:7",
    }
    return EventRecord(**{**given, **facts})


@pytest.fixture
def message(settings: Settings):
    """Return the message of an event, for a sink with the given keys."""

    def made(
        event: EventRecord | None = None, *, replays: int = 0, schema_url: str = "", **keys: Any
    ) -> SinkMessage:
        entry = {"BACKEND": "tests.outbox.sinks.memory.MemorySink", "EVENTS": ["*"], **keys}
        settings.OUTBOX = {
            "SOURCE": "/parcels",
            "SCHEMA_URL": schema_url,
            "SINKS": {"analytics": entry},
        }
        config = configured()["analytics"]
        return message_of(config, event or record(), sink=sink_of(config), replays=replays)

    yield made
    configuration.close_sinks()


ENCODING = f"{__name__}.EncodingSink"
FEW = f"{__name__}.FewHeadersSink"


class TestACloudEvent:
    def test_is_binary_by_default(self, message):
        made = message()

        assert made.headers == {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": str(ID),
            "ce-source": "/parcels",
            "ce-type": "tests.ParcelSent.v2",
            "ce-subject": "parcel 7",
            "ce-time": "2026-11-28T09:30:00Z",
            "ce-partitionkey": "parcel 7",
            "ce-correlationid": str(ID),
        }
        assert made.body == b'{"parcel_id":"7","weight":3}'
        assert (made.topic, made.key) == ("tests.ParcelSent", "parcel 7")

    def test_has_encoded_headers_where_the_protocol_requires_it(self, message):
        assert message(BACKEND=ENCODING).headers["ce-subject"] == "parcel%207"

    def test_is_structured_where_the_backend_is(self, message):
        made = message(BACKEND=FEW)

        event = parse({}, made.body)
        assert made.headers == {
            "content-type": "application/cloudevents+json",
            "id": str(ID),
            "type": "tests.ParcelSent.v2",
            "source": "/parcels",
        }
        assert event.data == {"parcel_id": "7", "weight": 3}
        assert event.extensions["partitionkey"] == "parcel 7"

    @pytest.mark.parametrize(
        ("backend", "encoding", "kind"),
        [
            (FEW, "binary", "application/json"),
            (ENCODING, "structured", "application/cloudevents+json"),
        ],
    )
    def test_has_the_encoding_of_the_settings(self, message, backend, encoding, kind):
        assert message(BACKEND=backend, ENCODING=encoding).headers["content-type"] == kind

    def test_names_the_schema(self, message):
        made = message(schema_url="https://parcels.example/{app}/{event}/{version}?n={name}")

        url = "https://parcels.example/tests/ParcelSent/2?n=tests.ParcelSent"
        assert made.headers["ce-dataschema"] == url

    def test_has_no_actor(self, message):
        made = message()

        assert "user:7" not in f"{made.headers} {made.body!r}"

    def test_is_refused_with_an_invalid_key(self, message):
        with pytest.raises(PermanentFailure, match=r"attribute subject of event .* has a control"):
            message(record(key="a\nb"))

    def test_is_refused_with_a_value_that_is_no_json(self, message):
        event = record(payload={"parcel_id": "7", "weight": float("nan")})

        with pytest.raises(PermanentFailure, match="The payload has no JSON form"):
            message(event)


class TestASensitiveField:
    @pytest.mark.parametrize("format_", ["cloudevents", "debezium", "mapper"])
    def test_is_omitted(self, message, format_):
        mapper = "tests.outbox.sinks.mappers.as_line"
        made = message(FORMAT=mapper if format_ == "mapper" else format_)

        assert b"weight" in made.body
        assert SECRET not in f"{made.headers} {made.body!r} {made.event.payload}"
        assert b"email" not in made.body

    def test_is_sent_if_the_sink_allows_it(self, message):
        made = message(SENSITIVE=True)

        assert json.loads(made.body) == PAYLOAD

    def test_is_unknown_for_an_unknown_event(self, message):
        event = record(name="gone.ParcelSent")

        with pytest.raises(PermanentFailure, match=r'"analytics" omits sensitive.*SENSITIVE'):
            message(event)
        assert json.loads(message(event, SENSITIVE=True).body) == PAYLOAD

    def test_may_be_one_that_only_a_newer_release_declares(self, message):
        """It is no permanent failure: a worker of that release publishes the event."""
        with pytest.raises(UndeclaredField) as caught:
            message(record(payload={**PAYLOAD, "phone": "1"}))

        assert not isinstance(caught.value, PermanentFailure)


class TestTheTopic:
    def test_is_filled_from_the_event(self, message):
        made = message(TOPIC="{app}/{event}/{name}/{version}/{key}/{{x}}")

        assert made.topic == "tests/ParcelSent/tests.ParcelSent/2/parcel 7/{x}"

    def test_has_the_key_as_the_backend_allows_it(self, message):
        made = message(BACKEND=FEW, TOPIC="{key}")

        assert (made.topic, made.key) == ("parcel_7", "parcel 7")

    def test_does_not_fill_placeholders_in_a_key(self, message):
        assert message(record(key="{version}"), TOPIC="t.{key}").topic == "t.{version}"


class TestDebezium:
    def test_has_its_topic_key_and_headers(self, message):
        made = message(FORMAT="debezium")

        assert made.topic == "outbox.event.tests"
        assert made.key == "parcel 7"
        assert made.headers == {
            "id": str(ID),
            "eventType": "tests.ParcelSent",
            "eventVersion": "2",
        }
        assert json.loads(made.body) == {"parcel_id": "7", "weight": 3}

    def test_may_have_another_topic(self, message):
        assert message(FORMAT="debezium", TOPIC="events").topic == "events"


class TestAMapper:
    def test_decides_all_parts(self, message):
        made = message(FORMAT="tests.outbox.sinks.mappers.as_line", TOPIC="t")

        assert made.body == b"tests.ParcelSent {'parcel_id': '7', 'weight': 3}"
        assert (made.topic, made.key, made.headers) == ("t.lines", "line", {"x": "1"})

    def test_may_leave_all_but_the_body(self, message):
        made = message(FORMAT="tests.outbox.sinks.mappers.as_body", TOPIC="t.{app}")

        assert made.body == b"t.tests"
        assert (made.topic, made.key, made.headers) == ("t.tests", "parcel 7", {})

    @pytest.mark.parametrize("name", ["as_text", "as_text_body"])
    def test_that_returns_something_else_is_refused(self, message, name):
        with pytest.raises(PermanentFailure, match=r"mappers\.as_text.* returned .*MessageParts"):
            message(FORMAT=f"tests.outbox.sinks.mappers.{name}")

    @pytest.mark.parametrize(
        ("part", "named"),
        [("headers", "the header x-version"), ("key", "the key"), ("topic", "the topic")],
    )
    def test_that_returns_a_number_in_place_of_a_text_is_refused(self, message, part, named):
        with pytest.raises(PermanentFailure, match=rf"as_number_in_{part} .* {named} is no text"):
            message(FORMAT=f"tests.outbox.sinks.mappers.as_number_in_{part}")


class TestTheDeduplicationId:
    def test_is_the_id_of_the_event(self, message):
        assert message().id == str(ID)

    def test_has_the_number_of_the_replay(self, message):
        made = message(replays=2)

        assert made.id == f"{ID}.2"
        assert made.headers["ce-id"] == str(ID)


class TestTheSize:
    @pytest.mark.parametrize("more", [0, 1])
    def test_is_limited_by_the_backend(self, message, more):
        empty = message(record(payload={"parcel_id": ""}))
        assert MemorySink.max_bytes is not None
        text = "x" * (MemorySink.max_bytes - empty.size + more)
        event = record(payload={"parcel_id": text})

        if not more:
            assert message(event).size == MemorySink.max_bytes
            return
        with pytest.raises(PermanentFailure, match=r'has 2,001 bytes, .*"analytics" accepts 2,000'):
            message(event)

    def test_is_not_limited_if_the_limit_is_unknown(self, message, monkeypatch):
        monkeypatch.setattr(MemorySink, "max_bytes", None)

        assert message(record(payload={"parcel_id": "x" * 10_000})).size > 10_000


def test_a_message_has_the_event_as_published(message):
    assert message().event == replace(record(), payload={"parcel_id": "7", "weight": 3})
