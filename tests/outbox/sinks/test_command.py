# No `from __future__ import annotations`: pydantic sees the local classes of tests.
"""`manage.py outbox sinks`: the list, the preview of a message, and the check of the system."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.utils import translation

from outbox import DomainEvent, Sensitive, operations, subscribe
from outbox.models import Event
from outbox.sinks.base import SinkUnavailable
from outbox.sinks.configuration import configured, sink_of
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.sinks.conftest import PASSWORD

SECRET = "hanako@example.co.jp"
PARCEL = UUID(int=7)
AS_TOTAL = "tests.outbox.sinks.mappers.as_total"

Configure = Callable[..., None]


@pytest.fixture
def outbox(own_registry: None, no_nudge: None) -> Outbox:
    class ParcelSent(DomainEvent, key="parcel_id", version=2):
        parcel_id: UUID
        email: Sensitive[str]
        address: str = ""

    class ParcelLost(DomainEvent, key="parcel_id"):
        parcel_id: UUID

    @subscribe("tests.ParcelSent", name="sinks.analytics")
    def analytics() -> None: ...

    return Outbox()


def sent(outbox: Outbox, **fields: Any) -> Event:
    outbox.given("tests.ParcelSent", **{"parcel_id": PARCEL, "email": SECRET, **fields})
    return Event.objects.latest("seq")


class TestTheList:
    def test_shows_each_sink_with_its_state(self, outbox: Outbox, configure: Configure):
        configure(TOPIC="parcels.{app}")
        configure("search", EVENTS=["tests.ParcelSent", "depot.*"], FORMAT="debezium")

        lines = outbox_command("sinks").splitlines()

        assert [line.split("  ")[0] for line in lines] == ["SINK", "analytics", "search"]
        assert "running" in lines[1]
        assert "parcels.{app}" in lines[1]
        assert "not subscribed: run migrate" in lines[2]
        assert "tests.ParcelSent, depot.*" in lines[2]
        assert "outbox.event.{app}" in lines[2]
        assert "tests.outbox.sinks.memory.MemorySink" in lines[2]
        assert PASSWORD not in "".join(lines)

    def test_shows_a_paused_sink(self, outbox: Outbox, configure: Configure):
        configure()
        operations.pause("sinks.analytics", by="user:1", reason="maintenance")

        assert "paused" in outbox_command("sinks")

    def test_is_available_as_json(self, outbox: Outbox, configure: Configure):
        configure()

        (found,) = json.loads(outbox_command("sinks", "--json"))

        assert found["name"] == "analytics"
        assert found["handler"] == "sinks.analytics"
        assert found["state"] == "running"
        assert PASSWORD not in str(found)

    def test_has_the_same_states_in_each_language_as_json(
        self, outbox: Outbox, configure: Configure
    ):
        """Failed: "一時停止中"."""
        configure()
        configure("search")
        operations.pause("sinks.analytics", by="user:1", reason="maintenance")

        with translation.override("ja"):
            found = json.loads(outbox_command("sinks", "--json"))

        assert [one["state"] for one in found] == ["pause", "unsubscribed"]

    def test_may_be_empty(self, outbox: Outbox, configure: Configure):
        assert 'No sink is configured. Set OUTBOX["SINKS"].' in outbox_command("sinks")
        assert 'No sink is configured. Set OUTBOX["SINKS"].' in outbox_command("sinks", "check")

    def test_is_refused_with_invalid_settings(self, outbox: Outbox, configure: Configure):
        configure(TOPICS="x")

        assert "has no key 'TOPICS'. Did you mean TOPIC?" in refused("sinks")


class TestThePreview:
    def test_shows_the_message_of_the_newest_event(self, outbox: Outbox, configure: Configure):
        configure(TOPIC="parcels.{event}")
        sent(outbox)
        event = sent(outbox, address="1-2-3 桜")

        text = outbox_command("sinks", "preview", "analytics")

        lines = text.splitlines()
        assert lines[:2] == [
            f"event     tests.ParcelSent, version 2, {event.id}",
            "          stored",
        ]
        assert "format    cloudevents, binary" in lines
        assert "topic     parcels.ParcelSent" in lines
        assert f"key       {PARCEL}" in lines
        assert f"id        {event.id} (deduplication)" in lines
        assert "header    content-type: application/json" in lines
        assert "header    ce-type: tests.ParcelSent.v2" in lines
        assert f"header    ce-subject: {PARCEL}" in lines
        (body,) = [line for line in lines if line.startswith("{")]
        assert lines[lines.index(body) - 1] == f"body      {len(body.encode())} bytes"
        assert json.loads(body) == {"parcel_id": str(PARCEL), "address": "1-2-3 桜"}
        assert "omitted   email (sensitive)" in lines
        assert SECRET not in text
        assert PASSWORD not in text

    def test_sends_nothing(self, outbox: Outbox, configure: Configure):
        configure()
        sent(outbox)

        outbox_command("sinks", "preview", "analytics")

        sink: Any = sink_of(configured()["analytics"])
        assert sink.messages == []

    def test_shows_the_size_beside_the_limit(self, outbox: Outbox, configure: Configure):
        configure(FORMAT="tests.outbox.sinks.mappers.as_body", TOPIC="abc")
        sent(outbox)

        text = outbox_command("sinks", "preview", "analytics")

        size = len("abc") + len(str(PARCEL))
        assert f"size      {size} bytes of at most 2,000, with key and headers" in text

    def test_shows_a_given_event(self, outbox: Outbox, configure: Configure):
        configure()
        first = sent(outbox)
        sent(outbox)

        text = outbox_command("sinks", "preview", "analytics", "--event", str(first.id))

        assert f"header    ce-id: {first.id}" in text

    def test_shows_an_example_without_an_event(self, outbox: Outbox, configure: Configure):
        configure(EVENTS=["tests.ParcelSent"])

        text = outbox_command("sinks", "preview", "analytics")

        assert "an example built from its schema" in text
        assert '{"parcel_id":"00000000-0000-0000-0000-000000000000","address":"example"}' in text
        assert "omitted   email (sensitive)" in text
        assert Event.objects.count() == 0

    def test_shows_sensitive_fields_that_are_sent(self, outbox: Outbox, configure: Configure):
        """It shows exactly the message, so it masks nothing."""
        configure(SENSITIVE=True)
        sent(outbox)

        text = outbox_command("sinks", "preview", "analytics")

        assert SECRET in text
        assert "omitted   nothing, since SENSITIVE is True: sensitive fields are sent" in text

    def test_names_an_event_without_sensitive_fields(self, outbox: Outbox, configure: Configure):
        configure(EVENTS=["tests.ParcelLost"])

        text = outbox_command("sinks", "preview", "analytics")

        assert "omitted   nothing, since no field of this event is sensitive" in text

    def test_shows_a_structured_message(self, outbox: Outbox, configure: Configure):
        configure(BACKEND="tests.outbox.sinks.memory.StructuredSink")
        sent(outbox)

        text = outbox_command("sinks", "preview", "analytics")

        (body,) = [line for line in text.splitlines() if line.startswith("{")]
        assert json.loads(body)["data"] == {"parcel_id": str(PARCEL), "address": ""}
        assert "format    cloudevents, structured" in text

    def test_shows_control_characters_as_escapes(self, outbox: Outbox, configure: Configure):
        configure()
        sent(outbox, address="a\x9b31mb")

        text = outbox_command("sinks", "preview", "analytics")

        assert "a\\x9b31mb" in text
        assert "\x9b" not in text

    def test_refuses_an_event_that_is_too_large(self, outbox: Outbox, configure: Configure):
        configure()
        sent(outbox, address="x" * 3000)

        text = refused("sinks", "preview", "analytics")

        assert 'and the sink "analytics" accepts 2,000' in text

    def test_refuses_an_event_of_a_newer_release(self, outbox: Outbox, configure: Configure):
        configure()
        event = sent(outbox)
        Event.objects.update(version=3)

        text = refused("sinks", "preview", "analytics")

        assert f"The event {event.id} is version 3 of tests.ParcelSent" in text
        assert "Run the command of that release." in text

    def test_names_a_mapper_that_fails(self, outbox: Outbox, configure: Configure):
        configure(FORMAT=AS_TOTAL)
        event = sent(outbox)

        text = refused("sinks", "preview", "analytics")

        assert f"The mapper {AS_TOTAL} raised KeyError for the event {event.id}." in text

    def test_names_a_mapper_that_fails_for_an_example(self, outbox: Outbox, configure: Configure):
        configure(FORMAT=AS_TOTAL)

        text = refused("sinks", "preview", "analytics")

        assert f"The mapper {AS_TOTAL} raised KeyError for an example" in text

    def test_refuses_an_event_of_another_sink(self, outbox: Outbox, configure: Configure):
        configure(EVENTS=["depot.*"])
        event = sent(outbox)

        text = refused("sinks", "preview", "analytics", "--event", str(event.id))

        assert 'The sink "analytics" does not publish tests.ParcelSent, but depot.*.' in text

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["analytic"], 'OUTBOX["SINKS"] has no sink analytic. Did you mean analytics?'),
            (["zzz"], "has no sink zzz. Sinks: analytics."),
            (["analytics", "--event", "7"], "7 is no event id. An event id is a UUID."),
            (["analytics", "--event", str(UUID(int=8))], "It may have been pruned"),
        ],
    )
    def test_refuses_unknown_names(self, outbox: Outbox, configure: Configure, arguments, text):
        configure()

        assert text in refused("sinks", "preview", *arguments)

    def test_needs_a_declared_event(self, outbox: Outbox, configure: Configure):
        configure(EVENTS=["gone.*"])

        text = refused("sinks", "preview", "analytics")

        assert 'No installed app declares an event that the sink "analytics" publishes.' in text


def run_check(*arguments: str) -> tuple[str, int]:
    """Run `sinks check`; return its output and its exit code."""
    out = StringIO()
    try:
        call_command("outbox", "sinks", "check", *arguments, stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(str(end.code))
    return out.getvalue(), 0


class TestTheCheck:
    def test_asks_each_system_for_its_destinations(self, outbox: Outbox, configure: Configure):
        events = ["tests.ParcelSent", "tests.ParcelLost"]
        configure(EVENTS=events, TOPIC="{event}.{key}.{version}")
        configure("search", EVENTS=events, TOPIC="all")

        shown, code = run_check()

        assert code == 0
        assert "ok       analytics: ParcelLost.*.1, ParcelSent.*.2" in shown
        assert "ok       search: all" in shown
        sinks: list[Any] = [sink_of(one) for one in configured().values()]
        assert [one.checked for one in sinks] == [["ParcelLost.*.1", "ParcelSent.*.2"], ["all"]]

    def test_may_ask_one_system(self, outbox: Outbox, configure: Configure):
        configure(OPTIONS={"problems": ["The topic x is missing. Create it."]})
        configure("search")

        shown, code = run_check("search")

        assert code == 0
        assert "analytics" not in shown

    def test_fails_with_a_problem_and_asks_the_others(self, outbox: Outbox, configure: Configure):
        configure(OPTIONS={"problems": ["The topic x is missing. Create it."]})
        configure("search", TOPIC="all")

        shown, code = run_check()

        assert code == 1
        assert "ERROR    analytics: The topic x is missing. Create it." in shown
        assert "ok       search: all" in shown

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (SinkUnavailable("The broker does not answer."), "The broker does not answer."),
            (ImproperlyConfigured("Install it."), "Install it."),
        ],
    )
    def test_fails_if_the_system_cannot_be_asked(
        self, outbox: Outbox, configure: Configure, error, text
    ):
        configure(OPTIONS={"error": error})

        shown, code = run_check()

        assert code == 1
        assert f"ERROR    analytics: {text}" in shown
        assert PASSWORD not in shown

    def test_hides_the_text_of_another_error(self, outbox: Outbox, configure: Configure):
        """The client's error may quote an option."""
        configure(OPTIONS={"error": ValueError(PASSWORD)})

        shown, code = run_check()

        assert code == 1
        assert 'The check of the sink "analytics" failed (ValueError).' in shown
        assert PASSWORD not in shown

    def test_fails_without_a_declared_event(self, outbox: Outbox, configure: Configure):
        configure(EVENTS=["gone.*"])

        shown, code = run_check()

        assert code == 1
        assert "publishes no event that an installed app declares. Correct its EVENTS." in shown
