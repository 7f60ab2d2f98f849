"""The AMQP source against RabbitMQ."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu
import pytest
import trustme
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
from tests.servers.tls import tls_server


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
    def test_reads_headers_of_other_types_as_cloudevents_writes_them(self, rabbitmq, queue, source):
        """Those of the binding for AMQP 1.0 may have types. RabbitMQ converts them."""
        headers = {
            "cloudEvents:time": datetime(2026, 11, 28, 9, 30, tzinfo=UTC),
            "cloudEvents:urgent": True,
            "cloudEvents:size": 7,
            "cloudEvents:mark": b"\xff x",
        }
        publish(rabbitmq, queue, [b"{}"], headers=headers, message_id="7")

        [message] = received(source, 1)
        assert message.headers == {
            "ce-time": "2026-11-28T09:30:00Z",
            "ce-urgent": "true",
            "ce-size": "7",
            "ce-mark": "\\xff x",
            "content-type": "application/data",
        }

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


@pytest.mark.once
class TestTls:
    """py-amqp itself does not check the host's name."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> trustme.CA:
        made = trustme.CA()
        made.cert_pem.write_to_path(tmp_path / "ca.pem")
        return made

    def problem(self, url: str, tmp_path: Path) -> str:
        """Return what the check of a source with this URL finds."""
        options = {"url": url, "ssl": {"ca_certs": str(tmp_path / "ca.pem")}}
        source = AmqpSource("billing", topics=["x"], group="", options=options)
        [found] = source.check(timeout=10)
        return found

    def test_refuses_a_certificate_of_another_host(self, tmp_path, authority):
        with tls_server(authority, "other.example") as server:
            found = self.problem(f"amqps://guest:guest@127.0.0.1:{server.port}//", tmp_path)

            assert server.accepted == 0
        assert "SSLCertVerificationError" in found

    def test_refuses_it_without_the_option_ssl(self, tmp_path, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with tls_server(authority, "other.example") as server:
            url = f"amqps://guest:guest@127.0.0.1:{server.port}//"
            [found] = AmqpSource("b", topics=["x"], group="", options={"url": url}).check(timeout=9)

            assert server.accepted == 0
        assert "SSLCertVerificationError" in found

    def test_verifies_the_name_of_each_of_several_hosts(self, tmp_path, authority):
        """The connection tries them in turn."""
        with (
            tls_server(authority, "other.example") as first,
            tls_server(authority, "127.0.0.2", address="127.0.0.2") as second,
        ):
            urls = [
                f"amqps://guest:guest@127.0.0.1:{first.port}//",
                f"amqps://guest:guest@127.0.0.2:{second.port}//",
            ]
            found = self.problem(";".join(urls), tmp_path)

            assert (first.accepted, second.accepted > 0) == (0, True)
        assert "SSLCertVerificationError" not in found


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
