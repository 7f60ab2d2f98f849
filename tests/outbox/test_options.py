"""Invalid options of sinks and sources."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from pytest_django import Settings

from outbox.doctor import sources as doctor
from outbox.sources import SourceUnavailable
from tests.outbox.sources.messages import NoSource, configure

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
        text = finding_beside_another_source(settings)

        assert '"visibility_timeout"' in text


#: Options with a credential that the client library quotes in its error, or an unknown argument.
QUOTED = [
    ("outbox.sources.amqp.AmqpSource", {"url": "amqp://shop:hunter2/x@127.0.0.1:1/"}),
    ("outbox.sources.kafka.KafkaSource", {"security.protocol": "hunter2"}),
    ("outbox.sources.kafka.KafkaSource", {"sasl.pasword": "hunter2"}),
    ("outbox.sources.kafka.KafkaSource", {"max.poll.interval.ms": object()}),
    ("outbox.sources.nats.NatsSource", {"pasword": "hunter2"}),
    ("outbox.sources.nats.NatsSource", {"error_cb": print}),
]


class TestAnOptionThatTheClientRefuses:
    @pytest.mark.parametrize(("backend", "options"), QUOTED)
    def test_is_not_quoted(self, backend: str, options: dict[str, Any]):
        with pytest.raises(ImproperlyConfigured, match="OPTIONS") as found:
            import_string(backend)("billing", topics=["x"], group="g", options=options)

        assert "hunter2" not in "".join(traceback.format_exception(found.value))

    @pytest.mark.parametrize(("backend", "options"), QUOTED)
    def test_is_a_finding_of_the_doctor_beside_those_of_other_sources(
        self, settings, backend: str, options: dict[str, Any]
    ):
        configure(settings, BACKEND=backend, OPTIONS=options)

        text = finding_beside_another_source(settings)

        assert "OPTIONS" in text
        assert "hunter2" not in text


class FailingSource(NoSource):
    """A source of the project, with a mistake: its errors quote what it was given."""

    def check(self, *, timeout: float) -> Sequence[str]:
        raise ValueError("bad url amqp://shop:hunter2@mq")


class UnreachableSource(NoSource):
    def check(self, *, timeout: float) -> Sequence[str]:
        raise SourceUnavailable("It does not answer. Start it.")


class TestACheckThatFails:
    def test_is_a_finding_that_names_the_error_and_quotes_no_text(self, settings):
        configure(settings, BACKEND="tests.outbox.test_options.FailingSource")

        text = finding_beside_another_source(settings)

        assert "ValueError" in text
        assert "hunter2" not in text

    def test_is_a_finding_with_the_text_of_the_source(self, settings):
        configure(settings, BACKEND="tests.outbox.test_options.UnreachableSource")

        assert finding_beside_another_source(settings) == "It does not answer. Start it."


def finding_beside_another_source(settings: Settings) -> str:
    """Return what the doctor finds about the source, and assert that it asks the next one, too."""
    fine = {"BACKEND": "tests.outbox.sources.messages.NoSource", "TOPICS": ["x"]}
    sources = {**settings.OUTBOX["SOURCES"], "carrier": fine}
    settings.OUTBOX = {**settings.OUTBOX, "SOURCES": sources}

    found = {one.part: one for one in doctor.examine_systems(timeout=1)}

    assert found["source carrier"].severity == "ok"
    assert found["source billing"].severity == "error"
    return f"{found['source billing'].text} {found['source billing'].advice}"
