from __future__ import annotations

import os
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from outbox.sinks import configuration
from outbox.sinks.configuration import SinkConfig, configured, sink_of
from tests.outbox.sinks.memory import MemorySink

MEMORY = "tests.outbox.sinks.memory.MemorySink"
PASSWORD = "s3cr3t-of-the-options"

pytestmark = pytest.mark.once


@pytest.fixture
def sinks(settings: Settings):
    """Set OUTBOX["SINKS"] to one valid entry, changed by the given keys; return the reader."""

    def changed(name: Any = "analytics", **keys: Any) -> SinkConfig:
        entry = {
            "BACKEND": MEMORY,
            "EVENTS": ["freight.*"],
            "OPTIONS": {"password": PASSWORD},
            **keys,
        }
        sinks = {name: {key: value for key, value in entry.items() if value is not ...}}
        settings.OUTBOX = {"SOURCE": "/freight", "SINKS": sinks}
        return configured()[name]

    yield changed
    configuration.close_sinks()


class TestAValidEntry:
    def test_has_defaults(self, sinks):
        config = sinks()

        assert config == SinkConfig(
            name="analytics",
            backend=MEMORY,
            events=("freight.*",),
            topic="{name}",
            options={"password": PASSWORD},
            format="cloudevents",
            encoding=None,
            ordered=True,
            sensitive=False,
            queue="outbox.sinks",
            batch=10,
            window=None,
            lease=60.0,
            timeout=10.0,
            attempts=45,
        )
        assert config.handler == "sinks.analytics"

    def test_sets_every_key(self, sinks):
        config = sinks(
            EVENTS=["freight.ShipmentBooked", "depot.*"],
            TOPIC="parcels.{app}.{key}",
            FORMAT="outbox.ids.uuid7",
            ENCODING="structured",
            ORDERED=False,
            SENSITIVE=True,
            QUEUE="edge",
            BATCH=3,
            WINDOW=20,
            LEASE_SECONDS=5,
            TIMEOUT_SECONDS=2,
            ATTEMPTS=None,
        )

        assert config.events == ("freight.ShipmentBooked", "depot.*")
        assert config.topic == "parcels.{app}.{key}"
        assert config.format == "outbox.ids.uuid7"
        assert config.encoding == "structured"
        assert (config.ordered, config.sensitive) == (False, True)
        assert (config.queue, config.batch, config.window) == ("edge", 3, 20)
        assert (config.lease, config.timeout, config.attempts) == (5.0, 2.0, None)

    def test_of_debezium_has_its_topic(self, sinks):
        assert sinks(FORMAT="debezium").topic == "outbox.event.{app}"

    def test_hides_its_options(self, sinks):
        assert PASSWORD not in repr(sinks())

    @pytest.mark.parametrize(
        ("pattern", "accepted"),
        [
            ("*", {"freight.ShipmentBooked", "freight.ShipmentArrived", "depot.PlaceAssigned"}),
            ("freight.*", {"freight.ShipmentBooked", "freight.ShipmentArrived"}),
            ("freight.ShipmentBooked", {"freight.ShipmentBooked"}),
        ],
    )
    def test_accepts_events_by_pattern(self, sinks, pattern, accepted):
        names = ["freight.ShipmentBooked", "freight.ShipmentArrived", "depot.PlaceAssigned"]
        config = sinks(EVENTS=[pattern])

        assert {name for name in names if config.accepts(name)} == accepted


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"TOPICS": "x"}, 'OUTBOX["SINKS"]["analytics"] has no key \'TOPICS\'. Did you mean TOPIC?'),
    ({"colour": "red"}, "has no key 'colour'. The keys are BACKEND, EVENTS, TOPIC, OPTIONS"),
    ({"BACKEND": ...}, '["BACKEND"] is invalid: it must be a string that is not empty'),
    ({"BACKEND": "no.such.Module"}, "no.such.Module cannot be imported (No module named 'no')"),
    ({"BACKEND": "tests.outbox.sinks.memory.NOT_A_SINK"}, "is no subclass of outbox.sinks.base."),
    ({"BACKEND": "outbox.events.EventRecord"}, "is no subclass of outbox.sinks.base.Sink"),
    ({"EVENTS": ...}, '["EVENTS"] is invalid: it must be a list of "app.ClassName", "app.*" or'),
    ({"EVENTS": []}, "and not empty"),
    ({"EVENTS": "freight.*"}, '["EVENTS"] is invalid: it must be a list'),
    ({"EVENTS": ["freight"]}, "'freight' does not fit"),
    ({"EVENTS": ["freight.*", "*.ShipmentBooked"]}, "'*.ShipmentBooked' does not fit"),
    ({"EVENTS": ["a.b.C"]}, "'a.b.C' does not fit"),
    ({"EVENTS": [7]}, "it must be a list"),
    (
        {"EVENTS": [f"freight.{'A' * 40}{number:03}" for number in range(20)]},
        "the names of its events have 1058 characters with separators; the limit is 1000. Use",
    ),
    (
        {"TOPIC": "shop.{appp}"},
        "the unknown placeholder {appp}. Did you mean app? The placeholders",
    ),
    ({"TOPIC": "{key.__class__}"}, "unknown placeholder {key.__class__}"),
    ({"TOPIC": "{}"}, "unknown placeholder {}"),
    ({"TOPIC": "{key!r}"}, "formats the placeholder {key}. Write {key} without a format"),
    ({"TOPIC": "{version:>3}"}, "formats the placeholder {version}"),
    ({"TOPIC": "shop.{app"}, "is no valid template: expected '}' before end of string"),
    ({"TOPIC": 7}, '["TOPIC"] is invalid: it must be a string'),
    ({"OPTIONS": [PASSWORD]}, "it must be a dict with the options of the client"),
    ({"FORMAT": "avro"}, '\'avro\' is unknown; use "cloudevents", "debezium" or the dotted path'),
    ({"FORMAT": "tests.outbox.sinks.mappers.nothing"}, "cannot be imported"),
    ({"FORMAT": "tests.outbox.sinks.memory.NOT_A_SINK"}, "is not callable"),
    ({"ENCODING": "base64"}, 'it must be "binary" or "structured"'),
    ({"ORDERED": 1}, "it must be True or False"),
    ({"SENSITIVE": "no"}, "it must be True or False"),
    ({"QUEUE": None}, '["QUEUE"] is invalid: it must be a string'),
    ({"BATCH": 11}, "MemorySink sends at most 10 messages in one call"),
    ({"BATCH": 0}, "it must be a whole number of 1 or more"),
    ({"BATCH": None}, "it must be a whole number of 1 or more."),
    ({"WINDOW": True}, "it must be a whole number of 1 or more."),
    ({"LEASE_SECONDS": 0}, "it must be a number of seconds above zero"),
    ({"TIMEOUT_SECONDS": 31}, "31 is too long; it must be at most half of the lease of 60 s"),
    ({"LEASE_SECONDS": float("nan")}, "it must be a number of seconds above zero"),
    ({"ATTEMPTS": 0}, "it must be a whole number of 1 or more, or None for no limit"),
]


class TestAnInvalidEntry:
    @pytest.mark.parametrize(("keys", "text"), INVALID, ids=[text[-40:] for _, text in INVALID])
    def test_is_refused_without_its_options(self, sinks, keys, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            sinks(**keys)

        assert text in str(caught.value)
        assert 'OUTBOX["SINKS"]["analytics"]' in str(caught.value)
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "7th", "a b", "a.b", "é" * 3, "x" * 101, 7, None])
    def test_is_refused_for_its_name(self, sinks, name):
        with pytest.raises(ImproperlyConfigured, match="has the invalid name"):
            sinks(name)

    def test_may_have_a_name_of_100_characters(self, sinks):
        assert sinks("x" * 100).name == "x" * 100

    def test_is_an_error_of_the_check(self, sinks):
        with pytest.raises(ImproperlyConfigured):
            sinks(TOPICS="x")

        found = [str(one) for one in run_checks(tags=["outbox"]) if one.id == "outbox.E012"]

        assert len(found) == 1
        assert "has no key 'TOPICS'" in found[0]
        assert PASSWORD not in found[0]

    @pytest.mark.parametrize("given", [[], {"analytics": 7}, 7])
    def test_is_refused_if_it_is_no_dict(self, settings: Settings, given):
        settings.OUTBOX = {"SINKS": given}

        with pytest.raises(ImproperlyConfigured, match="must be a dict"):
            configured()


class TestTheSource:
    @pytest.mark.parametrize("source", [None, "", "my shop", "läden", "%zz", 7])
    def test_must_be_a_uri_reference(self, settings: Settings, sinks, source):
        sinks()
        settings.OUTBOX = {**settings.OUTBOX, "SOURCE": source}

        with pytest.raises(ImproperlyConfigured, match="must be a URI reference"):
            configured()

    @pytest.mark.parametrize("source", ["/shop", "shop", "urn:shop:eu", "https://a.example/b?c#d"])
    def test_may_be_relative(self, settings: Settings, sinks, source):
        sinks()
        settings.OUTBOX = {**settings.OUTBOX, "SOURCE": source}

        assert "analytics" in configured()

    def test_is_not_needed_without_cloudevents(self, settings: Settings, sinks):
        sinks(FORMAT="debezium")
        settings.OUTBOX = {"SINKS": settings.OUTBOX["SINKS"]}

        assert "analytics" in configured()

    def test_is_not_needed_without_sinks(self, settings: Settings):
        settings.OUTBOX = {}

        assert configured() == {}

    def test_has_a_schema_url_without_a_key(self, settings: Settings, sinks):
        sinks()
        settings.OUTBOX = {**settings.OUTBOX, "SCHEMA_URL": "https://a.example/{key}"}

        with pytest.raises(ImproperlyConfigured, match=r'SCHEMA_URL"\] has the unknown.*{key}'):
            configured()


class TestASink:
    def test_is_one_per_process(self, sinks):
        config = sinks()

        sink = sink_of(config)

        assert isinstance(sink, MemorySink)
        assert sink.options == {"password": PASSWORD}
        assert sink_of(configured()["analytics"]) is sink

    def test_is_replaced_and_closed_after_a_change(self, sinks):
        before: Any = sink_of(sinks())

        after: Any = sink_of(sinks(OPTIONS={"password": "another"}))

        assert after.options == {"password": "another"}
        assert (before.is_closed, after.is_closed) == (True, False)

    def test_is_closed_with_all_others(self, sinks):
        sink: Any = sink_of(sinks())

        configuration.close_sinks()

        assert sink.is_closed
        assert sink_of(configured()["analytics"]) is not sink

    def test_is_not_shared_with_a_forked_process(self, sinks):
        config = sinks()
        sink = sink_of(config)
        child = os.fork()
        if child == 0:
            own: Any = sink_of(config)
            os._exit(0 if own is not sink and not own.is_closed else 1)

        _pid, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        assert sink_of(config) is sink
