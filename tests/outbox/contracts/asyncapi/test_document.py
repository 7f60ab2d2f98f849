"""The AsyncAPI document of this code: channels, operations, messages, schemas and examples."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

from typing import Any, Literal, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from outbox import DomainEvent, Sensitive, events, subscribe
from outbox.contracts import lock
from outbox.contracts.asyncapi import as_text, document
from outbox.events import EventRecord
from outbox.sinks.messages import MessageParts
from tests.asyncapi_tools import (
    faults_by_json_schema,
    faults_by_parser,
    invalid_examples,
    schema_errors,
)

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once


class Line(BaseModel):
    sku: str
    note: Sensitive[str] = ""


class Card(BaseModel):
    kind: Literal["card"]
    digits: str


class Transfer(BaseModel):
    kind: Literal["transfer"]
    account: str


def as_capitals(event: EventRecord, *, topic: str) -> MessageParts:
    place: str = event.payload["place"]
    return MessageParts(body=place.upper().encode())


@pytest.fixture
def parcels(own_registry: None) -> None:
    """Two events of all kinds of fields, and two handlers."""

    class ParcelSent(DomainEvent, key="parcel_id"):
        """A parcel left the house.

        It does not come back.
        """

        parcel_id: UUID
        lines: list[Line]
        paid_by: Card | Transfer = Field(discriminator="kind")
        position: tuple[float, float]
        weights: dict[int, float]
        email: Sensitive[str]
        note: str = Field(default="", description="For the neighbours.")

    class ParcelLost(DomainEvent, key="parcel_id"):
        parcel_id: UUID

    @subscribe("tests.ParcelSent", "tests.ParcelLost")
    def record(parcel_id: UUID, event_id: UUID) -> None: ...

    @subscribe("tests.ParcelSent")
    def announce(lines: list[Any]) -> None: ...


def payload_schema(made: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = made["components"]["schemas"][name]
    return found


@pytest.mark.usefixtures("parcels")
class TestTheDocument:
    def test_has_an_internal_channel_for_each_event(self):
        channels = document()["channels"]

        assert {"internal.tests.ParcelSent", "internal.tests.ParcelLost"} <= set(channels)
        assert channels["internal.tests.ParcelSent"]["address"] == "tests.ParcelSent"
        assert channels["internal.tests.ParcelSent"]["title"] == "Parcel sent"

    def test_has_an_operation_that_emits_each_event_and_one_for_each_handler(self):
        operations = document()["operations"]

        of_tests = {name: one["action"] for name, one in operations.items() if "Parcel" in name}
        assert of_tests == {
            "emit.tests.ParcelLost": "send",
            "emit.tests.ParcelSent": "send",
            "tests.announce.tests.ParcelSent": "receive",
            "tests.record.tests.ParcelLost": "receive",
            "tests.record.tests.ParcelSent": "receive",
        }
        assert operations["tests.record.tests.ParcelSent"]["x-outbox-reads"] == ["parcel_id"]

    def test_without_internal_channels_has_none(self):
        made = document(internal=False)

        assert (made["channels"], made["operations"], made["servers"]) == ({}, {}, {})

    def test_describes_the_fields(self):
        schema = payload_schema(document(), "tests.ParcelSent.v1")

        assert schema["properties"]["note"]["description"] == "For the neighbours."
        assert schema["properties"]["email"]["x-sensitive"] is True
        assert schema["description"].startswith("A parcel left the house.")

    def test_does_not_require_a_field_that_older_events_lack(self):
        schema = payload_schema(document(), "tests.ParcelSent.v1")

        assert "note" not in schema["required"]
        assert "email" in schema["required"]

    def test_allows_fields_that_later_releases_add(self):
        made = document()
        example = made["components"]["messages"]["tests.ParcelSent.v1"]["examples"][0]["payload"]

        errors = schema_errors(
            made, {"$ref": "#/components/schemas/tests.ParcelSent.v1"}, {**example, "new": 1}
        )

        assert errors == []

    def test_has_examples_that_fit_their_schemas(self):
        made = document()

        assert invalid_examples(made) == []
        assert all("examples" in one for one in made["components"]["messages"].values())

    def test_refuses_values_that_do_not_fit_the_fields(self):
        """The schemas are strict enough to find a wrong example."""
        made = document()
        example = made["components"]["messages"]["tests.ParcelSent.v1"]["examples"][0]["payload"]

        wrongs: tuple[dict[str, Any], ...] = (
            {"parcel_id": "7"},
            {"lines": [{}]},
            {"paid_by": {"kind": "cheque"}},
            {"position": [1.0]},
            {"position": ["here", 1.0]},
            {"weights": {"a": "b"}},
        )
        for wrong in wrongs:
            schema = {"$ref": "#/components/schemas/tests.ParcelSent.v1"}
            assert schema_errors(made, schema, {**example, **wrong}), wrong

    def test_is_the_same_each_time(self):
        assert as_text(document()) == as_text(document())

    def test_is_valid_by_asyncapis_parser(self):
        assert faults_by_parser(document()) == []

    def test_is_valid_by_asyncapis_json_schema(self):
        assert faults_by_json_schema(document()) == []

    def test_has_title_and_version_of_the_settings(self, settings: Any):
        settings.OUTBOX = {"ASYNCAPI_TITLE": "Parcels", "ASYNCAPI_VERSION": "2.1"}

        info = document()["info"]

        assert (info["title"], info["version"]) == ("Parcels", "2.1")

    def test_without_settings_is_named_after_the_project(self):
        assert document()["info"]["title"] == "Events of tests"

    @pytest.mark.parametrize(
        ("module", "title"),
        [("depot.settings.live", "Events of depot"), (None, "Events of this project")],
    )
    def test_of_a_project_without_urls_is_named_after_its_settings(
        self, settings: Any, module: str | None, title: str
    ):
        """Failed with AttributeError. A project of workers has no ROOT_URLCONF."""
        del settings.ROOT_URLCONF
        settings.SETTINGS_MODULE = module

        assert document()["info"]["title"] == title


class TestAnEventThatContainsItself:
    def test_is_described(self, own_registry: None):
        class Nested(DomainEvent, key="name"):
            name: str
            inner: Optional["Nested"] = None

        @subscribe("tests.Nested")
        def unpack(name: str, event_id: UUID) -> None: ...

        made = document()

        operation = made["operations"]["tests.unpack.tests.Nested"]
        assert operation["x-outbox-reads"] == ["name"]
        assert invalid_examples(made) == []
        assert faults_by_parser(made) == []


class TestTheValidators:
    def test_find_a_wrong_action(self, parcels: None):
        made = document()
        made["operations"]["emit.tests.ParcelSent"]["action"] = "shout"

        assert faults_by_parser(made)
        assert faults_by_json_schema(made)

    def test_find_a_reference_to_nothing(self, parcels: None):
        made = document()
        del made["components"]["schemas"]["tests.ParcelSent.v1"]

        assert faults_by_parser(made)

    def test_find_a_wrong_example(self, parcels: None):
        made = document()
        message = made["components"]["messages"]["tests.ParcelSent.v1"]
        message["examples"][0]["payload"]["parcel_id"] = 7

        assert len(invalid_examples(made)) == 1


class TestAnEarlierVersion:
    """Of an event of an installed app, since its lock records the versions."""

    @pytest.fixture
    def second_version(self, own_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded = lock.read

        def read(config: Any) -> Any:
            found = recorded(config)
            if config.label == "freight":
                first = {"type": "object", "properties": {"place": {"type": "integer"}}}
                found["freight.Moved"] = {"1": {"key": "place", "schema": first}}
            return found

        monkeypatch.setattr(lock, "read", read)

        class Moved(DomainEvent, key="place", version=2):
            """A parcel moved."""

            place: str

        events.registry.pop(Moved.event_name)
        Moved.__module__ = "tests.outbox.project.freight.events"
        Moved.event_name = "freight.Moved"
        events.registry["freight.Moved"] = [Moved]

        @subscribe("freight.Moved")
        def follow(place: str) -> None: ...

    def test_is_a_deprecated_message_of_the_same_channel(self, second_version: None):
        made = document()

        messages = made["channels"]["internal.freight.Moved"]["messages"]
        first = made["components"]["messages"]["freight.Moved.v1"]
        assert list(messages) == ["freight.Moved.v2", "freight.Moved.v1"]
        assert first["deprecated"] is True
        assert first["examples"][0]["payload"] == {"place": 1}
        assert "deprecated" not in made["components"]["messages"]["freight.Moved.v2"]

    def test_is_not_given_to_a_mapper(self, second_version: None, settings: Any):
        """A sink reads each event in its newest version, so its mapper knows no other."""
        sink = {
            "BACKEND": "tests.outbox.sinks.memory.MemorySink",
            "EVENTS": ["freight.Moved"],
            "FORMAT": f"{__name__}.as_capitals",
        }
        settings.OUTBOX = {"SINKS": {"out": sink}}

        messages = document()["components"]["messages"]

        assert messages["out.freight.Moved.v2"]["examples"][0]["payload"] == "PLACE"
        assert "examples" not in messages["out.freight.Moved.v1"]
        assert "The mapper" in messages["out.freight.Moved.v1"]["x-no-example"]

    def test_is_no_longer_emitted_but_handlers_read_it(self, second_version: None):
        operations = document()["operations"]

        emitted = operations["emit.freight.Moved"]["messages"]
        read = operations["tests.follow.freight.Moved"]["messages"]
        assert [one["$ref"].rpartition("/")[2] for one in emitted] == ["freight.Moved.v2"]
        assert [one["$ref"].rpartition("/")[2] for one in read] == [
            "freight.Moved.v2",
            "freight.Moved.v1",
        ]


class TestAnEventWithoutExample:
    @pytest.mark.parametrize("pattern", ["^Q{40}$", r"^\p{L}+$"])
    def test_says_how_to_give_one(self, own_registry: None, pattern: str):
        """Failed with re.error for a pattern that only pydantic's engine supports."""

        class Odd(DomainEvent, key="code"):
            code: str = Field(pattern=pattern)

        message = document()["components"]["messages"]["tests.Odd.v1"]

        assert "examples" not in message
        assert "Field(examples=[...])" in message["x-no-example"]
        assert faults_by_parser(document()) == []
