"""The AMQP sink against a real RabbitMQ."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from typing import Any

import kombu
import pytest
import trustme
from django.core.exceptions import ImproperlyConfigured

from outbox.receipt import PermanentFailure
from outbox.sinks import amqp as amqp_sink
from outbox.sinks.amqp import AmqpSink
from outbox.sinks.amqp_link import Link, MessageRefused, MessageUnroutable
from outbox.sinks.base import SinkUnavailable
from outbox.testing import SinkContract, StoredMessage
from tests.closed_port import port_of_nobody
from tests.outbox.sinks.messages import message, publish
from tests.processes import eventually
from tests.servers.brokers import RabbitMQServer
from tests.servers.tls import tls_server

EXCHANGE = "evs"  # so short that the contract does not take it for a secret
pytestmark = pytest.mark.once

_numbers = count()


@pytest.fixture
def topic(rabbitmq: RabbitMQServer) -> str:
    """A routing key with a durable queue of the same name."""
    name = f"freight.ParcelSent{next(_numbers)}"
    _make_queue(rabbitmq, name)
    return name


@pytest.fixture
def sink(rabbitmq: RabbitMQServer) -> Iterator[AmqpSink]:
    sink = AmqpSink("parcels", {"url": rabbitmq.url, "exchange": EXCHANGE, "declare": True})
    yield sink
    sink.close()


@pytest.fixture
def received(rabbitmq: RabbitMQServer) -> Callable[[str], Sequence[StoredMessage]]:
    return lambda topic: _take(rabbitmq, topic)


@contextmanager
def _channel(rabbitmq: RabbitMQServer) -> Iterator[Any]:
    with kombu.Connection(rabbitmq.url) as connection:
        yield connection.channel()


def _make_queue(rabbitmq: RabbitMQServer, name: str, **arguments: object) -> None:
    with _channel(rabbitmq) as channel:
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(name, EXCHANGE, name)


def _take(rabbitmq: RabbitMQServer, queue: str) -> list[StoredMessage]:
    """Remove and return the messages of a queue."""
    return [
        StoredMessage(
            key="",
            headers={**one.headers, "content-type": one.content_type},
            body=one.body,
            id=one.properties["message_id"],
        )
        for one in _raw(rabbitmq, queue)
    ]


def _raw(rabbitmq: RabbitMQServer, queue: str) -> list[Any]:
    with _channel(rabbitmq) as channel:
        channel.auto_decode = False
        found = []
        while (one := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(channel.message_to_python(one))
    return found


class TestAmqpSink(SinkContract):
    keeps_keys = False
    keeps_ids = True
    knows_topics = False  # AMQP cannot list bindings

    @pytest.fixture
    def sink(self, sink: AmqpSink) -> AmqpSink:
        return sink

    @pytest.fixture
    def topic(self, topic: str) -> str:
        return topic

    @pytest.fixture
    def received(
        self, received: Callable[[str], Sequence[StoredMessage]]
    ) -> Callable[[str], Sequence[StoredMessage]]:
        return received

    @pytest.fixture
    def outage(self, rabbitmq: RabbitMQServer) -> Callable[[], AbstractContextManager[object]]:
        return rabbitmq.down


class TestAPublishedMessage:
    def test_is_persistent_and_has_id_time_type_and_content_type(self, rabbitmq, sink, topic):
        sent = message(topic, headers={"ce-id": "1"})

        assert publish(sink, sent) == [None]

        (found,) = _raw(rabbitmq, topic)
        assert found.properties["delivery_mode"] == 2
        assert found.properties["message_id"] == sent.id
        assert found.properties["timestamp"] == int(sent.event.emitted_at.timestamp())
        assert found.properties["type"] == "freight.ParcelSent"
        assert found.content_type == "application/json"
        assert found.headers == {"ce-id": "1"}

    @pytest.mark.processes
    def test_survives_a_killed_server(self, rabbitmq, sink, topic):
        messages = [message(topic, b"%d" % number) for number in range(100)]
        assert publish(sink, *messages) == [None] * 100

        with rabbitmq.down():
            pass

        assert [one.body for one in _take(rabbitmq, topic)] == [one.body for one in messages]

    def test_waits_for_no_other_confirm(self, sink, topic, monkeypatch):
        """All are sent before the first confirm is awaited."""
        sent: list[int] = []
        send, wait = Link.send, Link.await_confirms

        def count_sent(link, batch, *rest):
            send(link, batch, *rest)
            sent.append(link._tags)

        def note_wait(link, batch, deadline):
            sent.append(link._tags)
            wait(link, batch, deadline)

        monkeypatch.setattr(Link, "send", count_sent)
        monkeypatch.setattr(Link, "await_confirms", note_wait)

        assert publish(sink, *[message(topic) for _ in range(20)]) == [None] * 20
        assert sent == [20, 20]


class TestAnUnroutableMessage:
    def test_is_an_error_and_the_others_are_stored(self, rabbitmq, sink, topic):
        first, lost, last = message(topic, b"1"), message("nobody.listens"), message(topic, b"3")

        results = publish(sink, first, lost, last)

        assert [type(one) for one in results] == [type(None), MessageUnroutable, type(None)]
        assert "nobody.listens" in str(results[1])
        assert [one.body for one in _take(rabbitmq, topic)] == [b"1", b"3"]

    def test_is_an_error_once_per_message(self, sink):
        results = publish(sink, *[message("nobody.listens") for _ in range(3)])

        assert [type(one) for one in results] == [MessageUnroutable] * 3


class TestARefusedMessage:
    def test_of_a_full_queue_is_an_error(self, rabbitmq, sink):
        name = f"full{next(_numbers)}"
        limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
        _make_queue(rabbitmq, name, **limits)
        assert publish(sink, message(name, b"1")) == [None]
        eventually(lambda: _count(rabbitmq, name) == 1, "the first message is in the queue")

        (result,) = publish(sink, message(name, b"2"))

        assert isinstance(result, MessageRefused)
        assert [one.body for one in _take(rabbitmq, name)] == [b"1"]

    def test_that_is_too_large_for_the_server_leaves_the_others(self, rabbitmq, topic):
        """RabbitMQ closes the channel, without the name of the message."""
        options = {"url": rabbitmq.url, "exchange": EXCHANGE, "max_bytes": 2**30}
        sink = AmqpSink("parcels", options)
        large = message(topic, b"x" * (amqp_sink.MAX_BYTES + 1))

        results = publish(sink, message(topic, b"1"), large, message(topic, b"3"))
        sink.close()

        assert [type(one) for one in results] == [type(None), PermanentFailure, type(None)]
        assert {one.body for one in _take(rabbitmq, topic)} == {b"1", b"3"}

    def test_with_a_long_routing_key_is_refused_for_good(self, rabbitmq, sink, topic):
        results = publish(sink, message("x" * 256), message(topic))

        assert [type(one) for one in results] == [PermanentFailure, type(None)]


def _count(rabbitmq: RabbitMQServer, queue: str) -> int:
    with _channel(rabbitmq) as channel:
        return int(channel.queue_declare(queue, passive=True).message_count)


class TestAServerThatStops:
    @pytest.mark.processes
    def test_answering_is_unavailable_within_the_time_limit(self, rabbitmq, sink, topic):
        """Connected before, and connecting during it: neither waits for ever."""
        assert publish(sink, message(topic)) == [None]

        with rabbitmq.frozen():
            connected = publish(sink, message(topic), message(topic), timeout=1)
            connecting = publish(sink, message(topic), timeout=1)

        assert [type(one) for one in (*connected, *connecting)] == [SinkUnavailable] * 3
        assert publish(sink, message(topic)) == [None]

    @pytest.mark.processes
    def test_reading_a_large_message_is_unavailable_within_the_time_limit(
        self, rabbitmq, sink, topic
    ):
        """The socket's buffers are full, so the write itself blocks."""
        assert publish(sink, message(topic)) == [None]

        with rabbitmq.frozen():
            (result,) = publish(sink, message(topic, b"x" * amqp_sink.MAX_BYTES), timeout=1)

        assert isinstance(result, SinkUnavailable)
        assert publish(sink, message(topic)) == [None]

    def test_a_connection_causes_no_failed_delivery(self, rabbitmq, sink, topic):
        assert publish(sink, message(topic)) == [None]
        rabbitmq.control("close_all_connections", "test")

        assert publish(sink, message(topic), message(topic)) == [None, None]

    @pytest.mark.processes
    def test_taking_messages_gets_each_of_them_once(self, rabbitmq, sink, topic):
        """A memory alarm blocks publishers. Probes during it send nothing."""
        first, probe, last = (message(topic, body) for body in (b"first", b"probe", b"last"))
        with rabbitmq.memory_alarm():
            results = publish(sink, first) + publish(sink, probe) + publish(sink, probe)
        eventually(lambda: publish(sink, last) == [None], "RabbitMQ takes messages")

        assert [type(one) for one in results] == [SinkUnavailable] * 3
        assert all("alarm" in str(one) for one in results)
        assert [one.body for one in _take(rabbitmq, topic)] == [b"first", b"last"]


class TestAMissingExchange:
    def test_is_unavailable_and_is_named(self, rabbitmq, topic):
        sink = AmqpSink("parcels", {"url": rabbitmq.url, "exchange": "missing"})

        (result,) = publish(sink, message(topic))

        assert isinstance(result, SinkUnavailable)
        assert 'exchange "missing"' in str(result)
        assert sink.check([topic], timeout=30) == [str(result)]

    def test_that_is_deleted_later_is_unavailable(self, rabbitmq, topic):
        options = {"url": rabbitmq.url, "exchange": "deleted-later"}
        AmqpSink("maker", {**options, "declare": True}).check([topic], timeout=30)
        sink = AmqpSink("parcels", options)
        assert sink.check([topic], timeout=30) == []
        with _channel(rabbitmq) as channel:
            channel.exchange_delete("deleted-later")

        results = publish(sink, message(topic)) + publish(sink, message(topic), message(topic))

        assert [type(one) for one in results] == [SinkUnavailable] * 3


class TestALogin:
    def test_that_is_refused_is_unavailable_without_the_password(self, rabbitmq, topic):
        url = rabbitmq.url.replace(":guest@", ":hunter2hunter2@")
        sink = AmqpSink("parcels", {"url": url, "exchange": EXCHANGE})

        (result,) = publish(sink, message(topic))

        assert isinstance(result, SinkUnavailable)
        assert "ACCESS_REFUSED" in str(result)
        assert "hunter2" not in str(result)

    def test_in_an_invalid_url_is_not_quoted(self):
        with pytest.raises(ImproperlyConfigured) as raised:
            AmqpSink("parcels", {"url": "amqp://me:hunter2@host:hunter2/", "exchange": "e"})

        assert "hunter2" not in str(raised.value)


class TestSeveralHosts:
    def test_are_tried_one_after_the_other(self, rabbitmq, topic):
        dead = f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//"
        sink = AmqpSink("parcels", {"url": f"{dead};{rabbitmq.url}", "exchange": EXCHANGE})

        first, second = publish(sink, message(topic)), publish(sink, message(topic))
        sink.close()

        assert isinstance(first[0], SinkUnavailable)
        assert second == [None]


class TestAForkedProcess:
    @pytest.mark.processes
    def test_has_a_connection_of_its_own(self, rabbitmq, sink, topic):
        assert publish(sink, message(topic, b"parent")) == [None]

        child = os.fork()
        if not child:
            with suppress(BaseException):
                results = publish(sink, message(topic, b"child"))
                sink.close()
                os._exit(0 if results == [None] else 1)
            os._exit(2)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert publish(sink, message(topic, b"parent again")) == [None]
        bodies = [one.body for one in _take(rabbitmq, topic)]
        assert bodies == [b"parent", b"child", b"parent again"]

    @pytest.mark.processes
    def test_without_a_server_leaves_the_connection_of_its_parent(self, rabbitmq, sink, topic):
        assert publish(sink, message(topic)) == [None]
        link = sink._link

        child = os.fork()
        if not child:
            with suppress(BaseException):
                dead = f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//"
                sink._addresses = kombu.Connection(dead)
                (result,) = publish(sink, message(topic))
                os._exit(0 if isinstance(result, SinkUnavailable) else 1)
            os._exit(2)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert publish(sink, message(topic)) == [None]
        assert sink._link is link


class TestTls:
    def test_refuses_a_certificate_of_another_host(self, tmp_path):
        """py-amqp itself does not check the host's name."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        with tls_server(authority, "other.example") as server:
            url = f"amqps://guest:guest@127.0.0.1:{server.port}//"
            options = {"url": url, "exchange": "e", "ssl": {"ca_certs": str(tmp_path / "ca.pem")}}

            (problem,) = AmqpSink("parcels", options).check(["topic"], timeout=30)

        assert "certificate" in problem.lower()

    def test_accepts_a_certificate_of_the_authority_in_the_options(self, tmp_path):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        with tls_server(authority, "127.0.0.1") as server:
            url = f"amqps://guest:guest@127.0.0.1:{server.port}//"
            options = {"url": url, "exchange": "e", "ssl": {"ca_certs": str(tmp_path / "ca.pem")}}

            AmqpSink("parcels", options).check(["topic"], timeout=30)

            assert server.accepted > 0


class TestWithoutKombu:
    def test_the_error_names_the_extra(self, monkeypatch):
        monkeypatch.setattr(amqp_sink, "kombu", None)

        with pytest.raises(ImproperlyConfigured, match=r'needs kombu \(extra "amqp"\)'):
            AmqpSink("parcels", {"url": "amqp://", "exchange": "e"})


class TestOptions:
    @pytest.mark.parametrize("missing", ["url", "exchange"])
    def test_that_are_missing_are_named(self, missing):
        options = {"url": "amqp://guest:guest@127.0.0.1//", "exchange": "e"}
        del options[missing]

        with pytest.raises(ImproperlyConfigured, match=f'needs the option "{missing}"'):
            AmqpSink("parcels", options)
