"""The Kafka sink against a broker. See tests/servers/kafka.py for the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from outbox.sinks.kafka import KafkaSink
from outbox.testing import ReceivedMessage, SinkContract
from tests.servers.kafka import KafkaServer

pytestmark = pytest.mark.once


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    return kafka.create_topic(partitions=3)


class TestKafkaSink(SinkContract):
    @pytest.fixture
    def sink(self, kafka: KafkaServer) -> KafkaSink:
        return KafkaSink("parcels", {"bootstrap.servers": kafka.bootstrap_servers})

    @pytest.fixture
    def topic(self, topic: str) -> str:
        return topic

    @pytest.fixture
    def received(self, kafka: KafkaServer) -> Callable[[str], Sequence[ReceivedMessage]]:
        return lambda topic: received_messages(kafka, topic)

    @pytest.fixture
    def outage(self, kafka: KafkaServer) -> Callable[[], object]:
        return kafka.down


def received_messages(kafka: KafkaServer, topic: str) -> list[ReceivedMessage]:
    return [
        ReceivedMessage(
            key=(one.key() or b"").decode(),
            headers=kafka.headers(one),
            body=one.value() or b"",
            id="",
        )
        for one in kafka.received(topic)
    ]
