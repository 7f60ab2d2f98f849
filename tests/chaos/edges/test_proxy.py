"""The proxies distort answers as their modes say, with a real NATS server and a real moto."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions
import nats
import nats.errors
import nats.js.errors
import pytest

from tests.chaos.edges.http_stands import AwsProxy, EventReceiver
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.proxy import Loop, Proxy
from tests.chaos.edges.wires import AmqpWire, KafkaWire, NatsWire
from tests.outbox.sinks import queues, streams
from tests.processes import CEILING, eventually
from tests.servers.aws import AwsServer
from tests.servers.fixtures import aws
from tests.servers.fixtures import nats as nats_server
from tests.servers.nats import NatsServer

__all__ = ["aws", "nats_server"]

pytestmark = pytest.mark.once


async def published(url: str, subject: str, *, timeout: float = CEILING) -> Any:
    """Return the acknowledgement of a message. No second connection is tried."""
    client = await nats.connect(url, allow_reconnect=False, connect_timeout=20)
    try:
        return await client.jetstream().publish(subject, b"x", timeout=timeout)
    finally:
        await client.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class TestTheProxyOfNats:
    @pytest.fixture
    def proxy(self, nats_server: NatsServer, loop: Loop) -> Proxy:
        port = int(nats_server.url.rpartition(":")[2])
        return Proxy(loop, port, lambda _server, _proxy: NatsWire())

    @pytest.fixture
    def stream(self, nats_server: NatsServer, request: pytest.FixtureRequest) -> str:
        name = f"s{abs(hash(request.node.nodeid))}"
        streams.create(nats_server.url, name, [name])
        return name

    @pytest.fixture
    def publish(self, proxy: Proxy, stream: str) -> Callable[..., Any]:
        url = f"nats://127.0.0.1:{proxy.port}"
        return lambda **options: asyncio.run(published(url, stream, **options))

    def test_passes_acknowledgements(self, nats_server, stream, publish):
        assert publish().seq == 1

        assert len(streams.stored(nats_server.url, stream)) == 1

    def test_loses_an_acknowledgement_of_a_stored_message(
        self, nats_server, proxy, stream, publish
    ):
        proxy.put(Mode.PARTIAL)
        proxy._rng.seed(1)  # its first choice is to drop one
        with pytest.raises(nats.errors.TimeoutError):
            publish(timeout=2)

        eventually(lambda: len(streams.stored(nats_server.url, stream)) == 1, "it is stored")
        proxy.put(Mode.PASS)
        assert publish().seq == 2

    def test_repeats_acknowledgements(self, proxy, publish):
        proxy.put(Mode.DOUBLE)

        assert publish().seq == 1

    @pytest.mark.parametrize("mode", [Mode.CUT, Mode.EXPIRED])
    def test_keeps_messages_from_the_server(self, nats_server, proxy, stream, publish, mode):
        proxy.put(mode)
        with pytest.raises((nats.errors.Error, OSError)):
            publish(timeout=2)

        assert streams.stored(nats_server.url, stream) == []


class TestTheProxyOfSqs:
    @pytest.fixture
    def proxy(self, aws: AwsServer) -> Iterator[AwsProxy]:
        proxy = AwsProxy(aws.url)
        yield proxy
        proxy.close()

    @pytest.fixture
    def send(self, aws: AwsServer, proxy: AwsProxy) -> Callable[[str], Any]:
        import boto3
        from botocore.config import Config

        once = Config(retries={"total_max_attempts": 1})
        client = boto3.client("sqs", **{**aws.options, "endpoint_url": proxy.url}, config=once)
        entries = [{"Id": str(number), "MessageBody": str(number)} for number in range(10)]
        return lambda url: client.send_message_batch(QueueUrl=url, Entries=entries)

    def test_fails_a_part_of_a_batch(self, aws, proxy, send):
        queue = queues.new_queue(aws)
        proxy.put(Mode.PARTIAL)

        answer = send(queue.url)

        done = {one["Id"] for one in answer["Successful"]}
        failed = {one["Id"] for one in answer["Failed"]}
        assert done | failed == set(map(str, range(10)))
        assert done
        assert failed
        # Some that are reported as failed are stored all the same.
        stored = {one["Body"] for one in queues.drained(aws, queue.url)}
        assert done < stored < done | failed

    def test_sends_a_request_twice(self, aws, proxy, send):
        queue = queues.new_queue(aws)
        proxy.put(Mode.DOUBLE)

        send(queue.url)

        assert len(queues.drained(aws, queue.url)) == 20

    @pytest.mark.parametrize(
        ("mode", "code"),
        [(Mode.THROTTLED, "ThrottlingException"), (Mode.EXPIRED, "ExpiredToken")],
    )
    def test_refuses_requests(self, aws, proxy, send, mode, code):
        queue = queues.new_queue(aws)
        proxy.put(mode)

        with pytest.raises(botocore.exceptions.ClientError) as refused:
            send(queue.url)

        assert refused.value.response["Error"]["Code"] == code
        assert queues.drained(aws, queue.url) == []

    def test_loses_the_answer_of_a_request(self, aws, proxy, send):
        queue = queues.new_queue(aws)
        proxy.put(Mode.LOST)

        with pytest.raises(botocore.exceptions.BotoCoreError):
            send(queue.url)

        assert len(queues.drained(aws, queue.url)) == 10


class TestTheReceiverOfEvents:
    def test_stores_what_it_does_not_answer(self):
        import httpx

        receiver = EventReceiver()
        receiver.put(Mode.LOST)
        with pytest.raises(httpx.HTTPError):
            httpx.post(receiver.url, content=b"{}", timeout=CEILING)
        receiver.put(Mode.EXPIRED)
        assert httpx.post(receiver.url, content=b"{}", timeout=CEILING).status_code == 401
        receiver.close()

        eventually(lambda: len(receiver.stored) == 1, "one stored event")


class TestAWire:
    """A message may come in several pieces."""

    @pytest.mark.parametrize(
        ("wire", "messages"),
        [
            (KafkaWire(1, 2), [b"\0\0\0\x05corr1", b"\0\0\0\x04corr"]),
            (NatsWire(), [b"PONG\r\n", b"MSG a 1 3\r\nx\r\n\r\n", b"+OK\r\n"]),
            (AmqpWire(), [b"\x01\0\x01\0\0\0\x04\0\x3c\0\x50\xce", b"\x08\0\0\0\0\0\0\xce"]),
        ],
    )
    def test_finds_whole_messages_in_pieces(self, wire, messages):
        found, rest = [], b""
        for byte in b"".join(messages):
            more, rest = wire.split(rest + bytes([byte]))
            found += more

        assert (found, rest) == (messages, b"")

    def test_replaces_the_address_in_answers_of_kafka(self):
        wire = KafkaWire(9092, 4711)
        metadata = b"\0\0\0\x11corr" + b"127.0.0.1" + (9092).to_bytes(4)

        [frame], _rest = wire.split(metadata)

        assert frame.endswith(b"127.0.0.1" + (4711).to_bytes(4))

    def test_knows_acknowledgements_of_kafka_by_their_requests(self):
        wire = KafkaWire(1, 2)
        wire.requested(b"\0\0\0\x08" + b"\0\0" + b"\0\x07" + b"cor1")  # Produce
        wire.requested(b"\0\0\0\x08" + b"\0\x01" + b"\0\x07" + b"cor2")  # Fetch

        assert wire.is_acknowledgement(b"\0\0\0\x05cor1x")
        assert not wire.is_acknowledgement(b"\0\0\0\x05cor2x")

    def test_knows_acknowledgements_of_nats_and_rabbitmq(self):
        stored = json.dumps({"stream": "s", "seq": 7}, separators=(",", ":")).encode()

        assert NatsWire().is_acknowledgement(b"MSG _INBOX.1 1 22\r\n" + stored + b"\r\n")
        assert not NatsWire().is_acknowledgement(b"PONG\r\n")
        assert AmqpWire().is_acknowledgement(b"\x01\0\x01\0\0\0\x04\0\x3c\0\x50\xce")
        assert not AmqpWire().is_acknowledgement(b"\x08\0\0\0\0\0\0\xce")
