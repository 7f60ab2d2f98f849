"""The AMQP source against RabbitMQ."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import kombu
import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.sources.amqp import AmqpSource
from tests.outbox.sources.contract import Send, SourceContract, received
from tests.servers.brokers import RabbitMQServer


@pytest.fixture
def queue(rabbitmq: RabbitMQServer) -> str:
    name = f"invoices-{uuid4().hex}"
    with kombu.Connection(rabbitmq.url) as connection:
        kombu.Queue(name, durable=True).declare(channel=connection.default_channel)
    return name


@pytest.fixture
def given(rabbitmq: RabbitMQServer, queue: str) -> dict[str, Any]:
    backend = "outbox.sources.amqp.AmqpSource"
    return {"BACKEND": backend, "TOPICS": [queue], "OPTIONS": {"url": rabbitmq.url}}


@pytest.fixture
def send(rabbitmq: RabbitMQServer, queue: str) -> Send:
    def send(messages: list[bytes]) -> None:
        with kombu.Connection(rabbitmq.url) as connection, connection.Producer() as producer:
            for one in messages:
                producer.publish(
                    one,
                    routing_key=queue,
                    content_type="application/cloudevents+json",
                    content_encoding="utf-8",
                )

    return send


class TestTheAmqpSource(SourceContract):
    @pytest.mark.once
    def test_reads_both_prefixes_of_cloudevents(self, rabbitmq, queue, source):
        with kombu.Connection(rabbitmq.url) as connection, connection.Producer() as producer:
            headers = {"cloudEvents:id": "1", "cloudEvents_type": "x", "ce-source": "/b"}
            producer.publish(b"{}", routing_key=queue, headers=headers, message_id="7")

        [message] = received(source, 1)
        assert message.headers["ce-id"] == "1"
        assert message.headers["ce-type"] == "x"
        assert message.headers["ce-source"] == "/b"
        assert message.position == f"{queue}/7"

    @pytest.mark.once
    def test_needs_a_url(self):
        with pytest.raises(ImproperlyConfigured, match='option "url"'):
            AmqpSource("billing", topics=["x"], group="", options={})
