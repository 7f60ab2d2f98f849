"""The AMQP source against RabbitMQ."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import kombu
import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.settlements.recording import ReportsNotRecorded
from outbox.sources import SourceUnavailable, receiver
from outbox.sources.amqp import AmqpSource
from outbox.sources.receiver import Receiver
from outbox.sources.storing import store
from tests.outbox.sources.contract import Send, SourceContract, bodies, received, stored
from tests.outbox.sources.messages import configure, declare_invoice_paid
from tests.processes import eventually
from tests.servers.brokers import RabbitMQServer


def declared(rabbitmq: RabbitMQServer, **arguments: Any) -> str:
    """Declare a durable queue with these arguments; return its name."""
    name = f"invoices-{uuid4().hex}"
    with kombu.Connection(rabbitmq.url) as connection:
        made = kombu.Queue(name, durable=True, queue_arguments=arguments)
        made.declare(channel=connection.default_channel)
    return name


def publish(rabbitmq: RabbitMQServer, queue: str, messages: list[bytes], **properties: Any) -> None:
    with kombu.Connection(rabbitmq.url) as connection, connection.Producer() as producer:
        for one in messages:
            producer.publish(one, routing_key=queue, **properties)


def settings_of(rabbitmq: RabbitMQServer, queue: str, **options: Any) -> dict[str, Any]:
    backend = "outbox.sources.amqp.AmqpSource"
    given = {"url": rabbitmq.url, **options}
    return {"BACKEND": backend, "TOPICS": [queue], "OPTIONS": given}


@pytest.fixture
def queue(rabbitmq: RabbitMQServer) -> str:
    return declared(rabbitmq)


@pytest.fixture
def given(rabbitmq: RabbitMQServer, queue: str) -> dict[str, Any]:
    return settings_of(rabbitmq, queue)


@pytest.fixture
def send(rabbitmq: RabbitMQServer, queue: str) -> Send:
    kind = {"content_type": "application/cloudevents+json", "content_encoding": "utf-8"}
    return lambda messages: publish(rabbitmq, queue, messages, **kind)


class TestTheAmqpSource(SourceContract):
    @pytest.mark.once
    def test_reads_both_prefixes_of_cloudevents(self, rabbitmq, queue, source):
        headers = {"cloudEvents:id": "1", "cloudEvents_type": "x", "ce-source": "/b"}
        publish(rabbitmq, queue, [b"{}"], headers=headers, message_id="7")

        [message] = received(source, 1)
        assert message.headers["ce-id"] == "1"
        assert message.headers["ce-type"] == "x"
        assert message.headers["ce-source"] == "/b"
        assert message.position == f"{queue}/7"

    @pytest.mark.once
    def test_receives_a_text_that_utf_8_cannot_encode(self, rabbitmq, queue, source, send):
        """The client decodes a body by the encoding that its sender names."""
        kind = {"content_type": "text/plain", "content_encoding": "unicode_escape"}
        publish(rabbitmq, queue, [rb"\ud800"], **kind)
        send(bodies(1))

        assert received(source, 2)[0].body == b"\xed\xa0\x80"

    @pytest.mark.once
    def test_exchanges_heartbeats_while_it_holds_messages(self, rabbitmq, settings):
        """RabbitMQ closes the connection of a source that is silent, and returns its messages."""
        queues = declared(rabbitmq), declared(rabbitmq)
        held, silent = (
            self.new(settings_of(rabbitmq, queue, heartbeat=1), settings) for queue in queues
        )
        for queue in queues:
            publish(rabbitmq, queue, bodies(1))
        batch, _lost = received(held, 1), received(silent, 1)

        def is_returned() -> bool:
            held.hold(batch)
            return silent.lag() == 1

        eventually(is_returned, "the return of the other message")

        assert held.lag() == 0
        held.acknowledge(batch)
        for one in (held, silent):
            one.close()

    @pytest.mark.once
    def test_holds_messages_while_the_lag_cannot_be_asked_for(self, rabbitmq, source, send):
        send(bodies(1))
        batch = received(source, 1)

        source.options = {"url": "amqp://127.0.0.1:1"}
        with pytest.raises(SourceUnavailable):
            source.lag()
        source.options = {"url": rabbitmq.url}
        source.hold(batch)

        assert source.lag() == 0
        source.acknowledge(batch)

    @pytest.mark.once
    def test_needs_a_url(self):
        with pytest.raises(ImproperlyConfigured, match='option "url"'):
            AmqpSource("billing", topics=["x"], group="", options={})


@pytest.mark.django_db(transaction=True)
class TestAQueueThatDeletesWhatReturnsTooOften:
    """A quorum queue does, after `x-delivery-limit` failed deliveries: 20, unless it is set."""

    @pytest.fixture
    def queue(self, rabbitmq: RabbitMQServer) -> str:
        return declared(rabbitmq, **{"x-queue-type": "quorum", "x-delivery-limit": 2})

    @pytest.fixture
    def failures(self, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
        """The errors of the next attempts to store."""
        found: list[Exception] = []

        def fail_or_store(*args: Any, **options: Any) -> Counter[str]:
            if found:
                raise found.pop()
            return store(*args, **options)

        monkeypatch.setattr(receiver, "store", fail_or_store)
        monkeypatch.setattr(receiver, "_FIRST_PAUSE", 0.01)
        monkeypatch.setattr(receiver, "_LONGEST_PAUSE", 0.01)
        return found

    @pytest.fixture
    def run(self, own_registry, given, settings) -> Iterator[Any]:
        """Run a receiver in a thread, until the end of the test."""
        declare_invoice_paid()
        stopping = threading.Event()
        made = Receiver(configure(settings, **given), stopping=stopping)
        thread = threading.Thread(target=made.run)
        yield thread.start
        stopping.set()
        thread.join()

    @pytest.mark.parametrize("error", [ReportsNotRecorded("Down."), ValueError("bug")])
    def test_loses_nothing_while_messages_cannot_be_stored(self, send, run, failures, error):
        failures += [error] * 12
        send(bodies(2))

        run()

        eventually(lambda: not failures, "the end of the failures")
        eventually(lambda: stored() == 2, "both messages")
