"""The systems at the edges. Kafka is in `kafka_system.py`."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import kombu
import redis

from shop.up.ports import HOST, free_port
from tests.chaos.edges.arrivals import Arrival, Drain, in_binary
from tests.chaos.edges.http_stands import AwsProxy, EventReceiver
from tests.chaos.edges.kafka_system import Kafka
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.proxy import Loop, Proxy
from tests.chaos.edges.system import CLOUDEVENT, Sequences, System
from tests.chaos.edges.wires import AmqpWire, NatsWire, Wire
from tests.outbox.sinks import queues, streams
from tests.servers.aws import AwsServer
from tests.servers.brokers import RabbitMQServer, ValkeyServer
from tests.servers.nats import NatsServer


class Aws(System):
    """SNS and SQS by moto, which keeps everything in memory: it is frozen, and never killed."""

    name = "aws"
    keeps_data = False
    modes = tuple(mode for mode in Mode if mode is not Mode.PASS)
    limited = ("sqs", "sqs_fifo", "sns_fifo")
    unordered = ("sqs",)

    def __init__(self, folder: Path, _loop: Loop, cleanup: ExitStack) -> None:
        self._aws = self.server = cleanup.enter_context(AwsServer(folder))
        proxy = self.stand = AwsProxy(self._aws.url)
        cleanup.callback(proxy.close)
        options = {**self._aws.options, "endpoint_url": proxy.url}
        plain = queues.new_queue(self._aws)
        fifo, of_topic, self._received = (queues.new_queue(self._aws, fifo=True) for _ in range(3))
        topic = queues.new_topic(self._aws, fifo=True)
        queues.subscribe(self._aws, topic, of_topic, RawMessageDelivery="true")
        drained = {"sqs": plain, "sqs_fifo": fifo, "sns_fifo": of_topic}
        self._drains = {name: Drain(self._aws, queue.url) for name, queue in drained.items()}
        to_queues, to_topics = ("outbox.sinks.aws.SqsSink", "outbox.sinks.aws.SnsSink")
        self.sinks = {
            "sqs": {"BACKEND": to_queues, "TOPIC": plain.url, "OPTIONS": options},
            "sqs_fifo": {"BACKEND": to_queues, "TOPIC": fifo.url, "OPTIONS": options},
            "sns_fifo": {"BACKEND": to_topics, "TOPIC": topic, "OPTIONS": options},
        }
        self.sources = {
            "from_sqs": {
                "BACKEND": "outbox.sources.aws.SqsSource",
                "TOPICS": [self._received.url],
                "OPTIONS": {**options, "visibility_timeout": 4},
            }
        }

    def send(self, body: bytes, *, key: str, id: str) -> None:
        self._aws.client("sqs").send_message(
            QueueUrl=self._received.url,
            MessageBody=body.decode(),
            MessageGroupId=key,
            MessageDeduplicationId=uuid4().hex,  # so that repetitions are not discarded there
        )

    def arrivals(self) -> dict[str, Sequences]:
        return {name: [drain.finish()] for name, drain in self._drains.items()}


class Nats(System):
    """JetStream. It syncs each message to the disk."""

    name = "nats"
    limited = ("nats",)

    def __init__(self, folder: Path, loop: Loop, cleanup: ExitStack) -> None:
        self._nats = self.server = cleanup.enter_context(NatsServer(folder))
        proxy = self.stand = Proxy(loop, int(self._nats.url.rpartition(":")[2]), _plain(NatsWire))
        logging.getLogger("nats").setLevel(logging.CRITICAL)  # the sender meets every fault
        streams.create(self._nats.url, "published", ["published.>"])
        streams.create(self._nats.url, "received", ["received.>"])
        options = {"servers": f"nats://{HOST}:{proxy.port}"}
        topic = "published.{event}.{key}"
        backend = "outbox.sinks.nats.NatsSink"
        self.sinks = {"nats": {"BACKEND": backend, "TOPIC": topic, "OPTIONS": options}}
        self.sources = {
            "from_nats": {
                "BACKEND": "outbox.sources.nats.NatsSource",
                "TOPICS": ["received.>"],
                "GROUP": "harbour",
                "OPTIONS": {**options, "ack_wait": 4},
            }
        }

    def send(self, body: bytes, *, key: str, id: str) -> None:
        streams.in_jetstream(self._nats.url, lambda js: js.publish(f"received.{key}", body))

    def arrivals(self) -> dict[str, Sequences]:
        stored = streams.stored(self._nats.url, "published")
        headers = [{name.lower(): text for name, text in one.headers.items()} for one in stored]
        pairs = zip(headers, stored, strict=True)
        return {"nats": [[in_binary(head, one.data, prefix="ce-") for head, one in pairs]]}


class Amqp(System):
    """RabbitMQ, with durable queues."""

    name = "amqp"

    def __init__(self, folder: Path, loop: Loop, cleanup: ExitStack) -> None:
        self._rabbitmq = self.server = cleanup.enter_context(RabbitMQServer(folder))
        port = int(self._rabbitmq.url.rpartition(":")[2].partition("/")[0])
        proxy = self.stand = Proxy(loop, port, _plain(AmqpWire))
        with kombu.Connection(self._rabbitmq.url) as connection:
            channel = connection.default_channel
            exchange = kombu.Exchange("harbour", type="topic", durable=True)
            kombu.Queue("published", exchange, "#", durable=True).declare(channel=channel)
            kombu.Queue("received", durable=True).declare(channel=channel)
        url = self._rabbitmq.url.replace(str(port), str(proxy.port))
        backend = "outbox.sinks.amqp.AmqpSink"
        self.sinks = {"amqp": {"BACKEND": backend, "OPTIONS": {"url": url, "exchange": "harbour"}}}
        self.sources = {
            "from_amqp": {
                "BACKEND": "outbox.sources.amqp.AmqpSource",
                "TOPICS": ["received"],
                "OPTIONS": {"url": url},
            }
        }

    def send(self, body: bytes, *, key: str, id: str) -> None:
        confirmed = {"confirm_publish": True}
        with kombu.Connection(self._rabbitmq.url, transport_options=confirmed) as connection:
            connection.ensure_connection(timeout=5, max_retries=1)
            connection.Producer().publish(
                body,
                routing_key="received",
                content_type=CLOUDEVENT,
                content_encoding="utf-8",
                message_id=id,
                delivery_mode=2,
                retry=False,
                timeout=10,
            )

    def arrivals(self) -> dict[str, Sequences]:
        found: list[Arrival] = []
        with kombu.Connection(self._rabbitmq.url) as connection:
            channel = connection.default_channel
            while message := channel.basic_get("published", no_ack=True):
                found.append(in_binary(message.headers, _bytes(message.body), prefix="ce-"))
        return {"amqp": [found]}


class Redis(System):
    """Valkey, which appends to its file before it answers."""

    name = "redis"
    modes = (Mode.CUT, Mode.LATE, Mode.LOST, Mode.THROTTLED, Mode.EXPIRED)
    STREAM, USER, PASSWORD = "published", "harbour", "secret"

    def __init__(self, folder: Path, loop: Loop, cleanup: ExitStack) -> None:
        server = ValkeyServer(folder)
        # "everysec" may lose the answers of a second when the process is killed.
        user = [self.USER, "on", f">{self.PASSWORD}", "~*", "&*", "+@all"]
        server.command = [*server.command, "--appendfsync", "always", "--user", *user]
        self.server = cleanup.enter_context(server)
        self._valkey = server
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        proxy = Proxy(loop, port, _plain(Wire))
        self.stand = _RedisStand(proxy, self)
        url = f"redis://{self.USER}:{self.PASSWORD}@{HOST}:{proxy.port}/0"
        backend = "outbox.sinks.redis_streams.RedisStreamSink"
        self.sinks = {"redis": {"BACKEND": backend, "TOPIC": self.STREAM, "OPTIONS": {"url": url}}}

    def client(self) -> redis.Redis:
        """Return a client with all rights."""
        return redis.Redis.from_url(self._valkey.url, decode_responses=True, socket_timeout=5)

    def arrivals(self) -> dict[str, Sequences]:
        with self.client() as client:
            entries: list[Any] = list(client.xrange(self.STREAM))
        found = [in_binary(fields, fields["data"].encode(), prefix="") for _id, fields in entries]
        return {"redis": [found]}


class _RedisStand:
    """The proxy, and the server's own refusals: its memory limit, and a user without a password."""

    def __init__(self, proxy: Proxy, system: Redis) -> None:
        self._proxy, self._system = proxy, system
        self._mode = Mode.PASS

    def put(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if Mode.THROTTLED in (before, mode):
            limit = 1 if mode is Mode.THROTTLED else 0
            self._execute("CONFIG", "SET", "maxmemory", str(limit))
        elif Mode.EXPIRED in (before, mode):
            password = "another" if mode is Mode.EXPIRED else self._system.PASSWORD
            self._execute("ACL", "SETUSER", self._system.USER, "resetpass", f">{password}")
            self._execute("CLIENT", "KILL", "USER", self._system.USER)
        else:
            self._proxy.put(mode)

    def _execute(self, *command: str) -> None:
        with self._system.client() as client:
            client.execute_command(*command)


class Http(System):
    """The run itself receives what the HTTP sink posts, and posts to the HTTP source.

    Attributes:
        web_url: address at which a web process has to serve the HTTP source.
    """

    name = "http"
    KEY = b"a key of thirty-two bytes length"
    modes = (Mode.CUT, Mode.LATE, Mode.LOST, Mode.PARTIAL, Mode.THROTTLED, Mode.EXPIRED)

    def __init__(self, _folder: Path, _loop: Loop, cleanup: ExitStack) -> None:
        self._receiver = self.stand = EventReceiver()
        cleanup.callback(self._receiver.close)
        backend = "outbox.sinks.http.HttpSink"
        url = self._receiver.url
        self.sinks = {"http": {"BACKEND": backend, "TOPIC": url, "OPTIONS": {"secrets": []}}}
        self.web_url = f"http://{HOST}:{free_port()}"
        secret = f"whsec_{base64.b64encode(self.KEY).decode()}"
        backend = "outbox.sources.http.HttpSource"
        self.sources = {"from_http": {"BACKEND": backend, "OPTIONS": {"SECRETS": [secret]}}}

    def send(self, body: bytes, *, key: str, id: str) -> None:
        moment = str(int(time.time()))
        signed = f"{id}.{moment}.".encode() + body
        signature = base64.b64encode(hmac.digest(self.KEY, signed, "sha256")).decode()
        headers = {
            "Content-Type": CLOUDEVENT,
            "webhook-id": id,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{signature}",
        }
        url = f"{self.web_url}/events/from_http/"
        httpx.post(url, content=body, headers=headers, timeout=5).raise_for_status()

    def arrivals(self) -> dict[str, Sequences]:
        stored = list(self._receiver.stored)
        return {"http": [[in_binary(one.headers, one.body, prefix="ce-") for one in stored]]}


ALL: tuple[type[System], ...] = (Kafka, Aws, Nats, Amqp, Redis, Http)


def _plain(wire: Callable[[], Wire]) -> Callable[[int, int], Wire]:
    """Return a wire that does not depend on ports."""
    return lambda _server_port, _proxy_port: wire()


def _bytes(body: str | bytes | memoryview) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)
