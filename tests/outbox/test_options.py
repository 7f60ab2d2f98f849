"""Options of sinks and sources that have to be numbers."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from outbox.doctor import sources as doctor
from tests.outbox.sources.messages import configure

AMQP = {"url": "amqp://127.0.0.1:1", "exchange": "x"}
REDIS = {"url": "redis://127.0.0.1:1"}
HTTP = {"secrets": ["whsec_" + "a" * 32]}
OF_SINKS = [
    ("outbox.sinks.http.HttpSink", "concurrency", HTTP),
    ("outbox.sinks.amqp.AmqpSink", "max_bytes", AMQP),
    ("outbox.sinks.redis_streams.RedisStreamSink", "max_bytes", REDIS),
    ("outbox.sinks.redis_streams.RedisStreamSink", "maxlen", REDIS),
    ("outbox.sinks.redis_streams.RedisStreamSink", "wait_replicas", REDIS),
    ("outbox.sinks.nats.sink.NatsSink", "max_bytes", {}),
    ("outbox.sinks.aws.sinks.SqsSink", "max_bytes", {"region_name": "eu-central-1"}),
]
OF_SOURCES = [
    ("outbox.sources.aws.SqsSource", "visibility_timeout", {"region_name": "eu-central-1"}),
    ("outbox.sources.nats.NatsSource", "ack_wait", {}),
]

pytestmark = pytest.mark.once


class TestAnOptionThatIsNoNumber:
    @pytest.mark.parametrize(("backend", "option", "others"), OF_SINKS)
    def test_of_a_sink_is_named(self, backend: str, option: str, others: dict[str, Any]):
        made = import_string(backend)

        with pytest.raises(ImproperlyConfigured, match=rf'sink "log": "{option}" must be') as found:
            made("log", {**others, option: "60s"})
        assert "60s" not in str(found.value)

    @pytest.mark.parametrize("value", ["60s", None, []])
    @pytest.mark.parametrize(("backend", "option", "others"), OF_SOURCES)
    def test_of_a_source_is_named(
        self, backend: str, option: str, others: dict[str, Any], value: Any
    ):
        made = import_string(backend)

        with pytest.raises(ImproperlyConfigured, match=rf'source "log": "{option}" must be'):
            made("log", topics=["x"], group="g", options={**others, option: value})

    def test_is_a_finding_of_the_doctor_beside_those_of_other_sources(self, settings):
        wrong = {"region_name": "eu-central-1", "visibility_timeout": "60s"}
        configure(settings, BACKEND="outbox.sources.aws.SqsSource", OPTIONS=wrong)
        fine = {"BACKEND": "tests.outbox.sources.messages.NoSource", "TOPICS": ["x"]}
        sources = {**settings.OUTBOX["SOURCES"], "carrier": fine}
        settings.OUTBOX = {**settings.OUTBOX, "SOURCES": sources}

        found = {one.part: one for one in doctor.examine_systems(timeout=1)}

        assert '"visibility_timeout"' in found["source billing"].text
        assert found["source carrier"].severity == "ok"
