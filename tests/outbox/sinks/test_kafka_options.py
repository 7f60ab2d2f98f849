"""The options of a Kafka sink: safe ones are fixed, wrong ones are named, none is quoted."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.sinks.base import SinkMessage
from outbox.sinks.kafka import KafkaSink
from outbox.testing import SinkContract

pytestmark = pytest.mark.once

ADDRESS = {"bootstrap.servers": "127.0.0.1:1"}
SECRET = "hunter2-hunter2"


def sink(**options: Any) -> KafkaSink:
    return KafkaSink("parcels", {**ADDRESS, **options})


def message_for(sink: KafkaSink) -> SinkMessage:
    return SinkContract().message(sink, "freight")


class TestAnUnsafeOption:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("acks", 0),
            ("acks", "1"),
            ("request.required.acks", 1),
            ("enable.idempotence", False),
            ("enable.idempotence", "false"),
            ("transactional.id", "shop"),
            ("default.topic.config", {"acks": 1}),
        ],
    )
    def test_is_refused_by_name(self, name, value):
        with pytest.raises(ImproperlyConfigured, match=f'sink "parcels".* {name}'):
            sink(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("acks", "all"),
            ("acks", -1),
            ("request.required.acks", "-1"),
            ("enable.idempotence", "true"),
            ("enable.idempotence", True),
        ],
    )
    def test_may_have_its_safe_value(self, name, value):
        sink(**{name: value})


class TestTheAddress:
    def test_is_required(self):
        with pytest.raises(ImproperlyConfigured, match=r"bootstrap\.servers"):
            KafkaSink("parcels", {"client.id": "shop"})

    def test_may_have_its_older_name(self):
        KafkaSink("parcels", {"metadata.broker.list": "127.0.0.1:1"})


class TestARefusedOption:
    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"sesame": SECRET}, "sesame"),
            ({"security.protocol": SECRET}, "security.protocol"),
            ({"ssl.ca.location": f"/{SECRET}.pem", "security.protocol": "SSL"}, "ssl.ca.location"),
            ({"linger.ms": SECRET}, "queue.buffering.max.ms"),
            ({"max.in.flight": 100}, "max.in.flight"),
            ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "sasl.username"),
        ],
    )
    def test_is_named_and_its_value_is_not_quoted(self, options, name):
        refused = sink(**options)

        with pytest.raises(ImproperlyConfigured) as caught:
            refused.publish([message_for(refused)], timeout=1)
        (problem,) = refused.check(["freight"], timeout=1)

        for text in (str(caught.value), problem):
            assert f'the property {name} in OPTIONS of sink "parcels"' in text
            assert SECRET not in text
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("size", ["large", float("inf")])
    def test_is_found_at_creation_if_it_is_the_size(self, size: object):
        with pytest.raises(ImproperlyConfigured, match=r"message\.max\.bytes"):
            sink(**{"message.max.bytes": size})


class TestTheSizeLimit:
    def test_is_that_of_the_options(self):
        assert sink().max_bytes == 1_000_000
        assert sink(**{"message.max.bytes": "2000000"}).max_bytes == 2_000_000


class TestAMissingLibrary:
    def test_is_named_with_its_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "confluent_kafka", None)

        with pytest.raises(ImproperlyConfigured) as caught:
            sink()

        assert str(caught.value) == (
            'The Kafka sink needs confluent-kafka (extra "kafka"): pip install confluent-kafka.'
        )
