"""Celery over SQS without processes: names, options, and the transport's answer to failures.

For real processes, see tests/chaos/test_sqs.py.
"""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection

from outbox.transports import celery_broker, sqs
from outbox.transports.celery_broker import CeleryTransport, forward_nudges, has_fanout
from tests.outbox.celery_settings import set_celery

pytest.importorskip("boto3", reason="Celery over SQS needs boto3.")

#: The attributes of an HTTP response that kombu reads.
Response = SimpleNamespace


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS at an address at which no server listens."""
    url = "sqs://key:secret@127.0.0.1:1"
    options = sqs.transport_options(
        url, region="eu-west-1", queue_url="http://127.0.0.1:1/{queue}", queues=["outbox"]
    )
    set_celery(monkeypatch, "broker_read_url", url)
    set_celery(monkeypatch, "broker_write_url", url)
    set_celery(monkeypatch, "broker_transport_options", options)


@pytest.fixture
def channel() -> Any:
    from outbox.transports.celery_sqs import Transport

    options = {"predefined_queues": {"outbox": {"url": "http://sqs/outbox"}}}
    connection = Connection("sqs://key:secret@sqs", transport=Transport, transport_options=options)
    return connection.default_channel


class TestTheNameOfAQueue:
    @pytest.mark.parametrize(
        "queue",
        ["outbox", "payments.gateway", "a.b-c_d", "orders.fifo", "x.y.fifo", "a/b:c", "a b"],
    )
    def test_is_that_of_kombu(self, channel: Any, queue: str):
        assert sqs.queue_name(queue) == channel.canonical_queue_name(queue)

        channel.queue_name_prefix = "my.shop-"
        assert sqs.queue_name(queue, prefix="my.shop-") == channel.canonical_queue_name(queue)


class TestTheOptions:
    def test_name_the_url_of_each_queue(self):
        url = "https://sqs.eu-west-1.amazonaws.com/123456789012/shop-{queue}"

        options = sqs.transport_options("sqs://", queue_url=url, queues=["outbox", "a.b"])

        assert options["predefined_queues"] == {
            "outbox": {"url": url.replace("{queue}", "outbox")},
            "a-b": {"url": url.replace("{queue}", "a-b")},
        }

    def test_refuse_one_url_for_all_queues(self):
        with pytest.raises(ValueError, match=r"https://sqs/1/shop\) has no \{queue\}"):
            sqs.transport_options("sqs://", queue_url="https://sqs/1/shop", queues=["outbox"])

    @pytest.mark.parametrize(
        ("host", "endpoint"),
        [
            ("", "https://sqs.eu-west-1.amazonaws.com"),
            ("key:secret@sqs.example.com", "https://sqs.example.com"),
            ("key:secret@127.0.0.1:4566", "http://127.0.0.1:4566"),
        ],
    )
    def test_use_tls_except_on_this_host(self, host: str, endpoint: str):
        """Failed: for a URL with a host, kombu uses http unless it is given `is_secure`."""
        options = sqs.transport_options(
            f"sqs://{host}", region="eu-west-1", queue_url="http://sqs/{queue}", queues=["outbox"]
        )

        with Connection(f"sqs://{host}", transport_options=options) as connection:
            channel: Any = connection.default_channel
            assert channel.sqs()._endpoint.host == endpoint


class TestABrokerWithoutFanout:
    def test_is_sqs(self):
        assert not has_fanout(Connection("sqs://"))
        assert has_fanout(Connection("redis://"))
        assert has_fanout(Connection("amqp://"))

    def test_receives_no_nudge(self, nobody: None, monkeypatch: pytest.MonkeyPatch):
        """Failed: a queue of the nudge was asked for, which SQS lacks."""
        monkeypatch.setattr(celery_broker, "_connect", lambda app: pytest.fail("it connects"))

        CeleryTransport().nudge()

    def test_forwards_no_nudge_until_the_relay_stops(self, nobody: None):
        stopping = threading.Event()
        relay: Any = SimpleNamespace(nudge=lambda: pytest.fail("it nudges"))
        thread = threading.Thread(target=forward_nudges, args=(relay, stopping))
        thread.start()

        stopping.set()
        thread.join(60)

        assert not thread.is_alive()

    def test_is_not_available_while_nobody_listens(self, nobody: None):
        """Failed: kombu opens a channel of SQS without a request."""
        assert CeleryTransport().is_available() is False


class TestAFailedRequestForMessages:
    @pytest.fixture
    def read(self, channel: Any) -> Any:
        """Read a response as kombu does it for the queue `outbox`."""
        from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection

        connection: Any = AsyncSQSConnection(channel.sqs("outbox"), http_client=object())
        connection.receive_message = lambda *_args, **_kwargs: None
        channel._get_from_sqs("outbox", "http://sqs/outbox", connection)
        return lambda response: connection._on_list_ready(None, [], "ReceiveMessage", response)

    @pytest.mark.parametrize(
        ("status", "reason"),
        [(599, "Connection refused"), (503, "Service Unavailable"), (403, "ExpiredToken")],
    )
    def test_returns_no_message_and_is_logged_once(
        self, channel: Any, read: Any, caplog: pytest.LogCaptureFixture, status: int, reason: str
    ):
        """Failed: kombu raised in the event loop, and the worker ended or no longer asked."""
        failed = Response(status=status, reason=reason, read=lambda: b"")
        with caplog.at_level(logging.INFO, "outbox.worker"):
            assert [read(failed), read(failed)] == [{}, {}]

        assert [one.levelname for one in caplog.records] == ["WARNING"]
        assert reason in caplog.text
        assert "queue outbox" in caplog.text

    def test_is_repeated_after_a_pause(self, channel: Any, read: Any):
        later: list[float] = []
        channel.hub = SimpleNamespace(
            call_later=lambda seconds, *_args: later.append(seconds),
            call_soon=lambda *_args: later.append(0),
        )
        channel.connection.polling_interval = 0.05

        read(Response(status=599, reason="Connection refused", read=lambda: b""))
        channel._loop1("outbox", 0)

        assert later == [1.0]
