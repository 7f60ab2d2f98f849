"""Sinks: events already emitted, published by a sink, beside the least loop that does it."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kombu
import nats
from amqp.exceptions import ChannelError

from benchmarks.ground import STANDSTILL, Ground
from benchmarks.harness import Figure, Ratio, Result, in_turn, require_effects
from benchmarks.peers import CELERY_OUTBOX
from benchmarks.row import Row
from benchmarks.rows.relay import BACKLOG
from benchmarks.sides import Side, ours
from tests.chaos.stack import ROOT
from tests.servers.aws import AwsServer
from tests.servers.brokers import RabbitMQServer, ValkeyServer
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer

#: BACKEND, TOPIC and OPTIONS of a sink of a running server.
Target = tuple[str, str, dict[str, Any]]

#: Seconds between two looks at the length of a queue.
LOOK_SECONDS = 0.01

#: From the first acknowledged event to the last.
EVENTS_PER_SECOND = """
SELECT (count(*) - count(*) FILTER (WHERE settled_at = first))
       / extract(epoch FROM max(settled_at) - min(settled_at))::float
FROM outbox_delivery, (SELECT min(settled_at) AS first FROM outbox_delivery) ends
WHERE state = 'done'
"""


@contextmanager
def _kafka(folder: Path) -> Iterator[Target]:
    with KafkaServer(folder) as server:
        options = {"bootstrap.servers": server.bootstrap_servers}
        yield "outbox.sinks.kafka.KafkaSink", server.create_topic(partitions=3), options


@contextmanager
def _nats(folder: Path) -> Iterator[Target]:
    with NatsServer(folder) as server:
        asyncio.run(_create_stream(server.url))
        yield "outbox.sinks.nats.NatsSink", "events.{event}", {"servers": server.url}


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[Target]:
    with RabbitMQServer(folder) as server:
        exchange = kombu.Exchange("events", "topic", durable=True)
        arguments = {"x-queue-type": "quorum"}
        queue = kombu.Queue("events", exchange, routing_key="#", queue_arguments=arguments)
        with kombu.Connection(server.url) as connection:
            queue(connection).declare()
        options = {"url": server.url, "exchange": "events"}
        yield "outbox.sinks.amqp.AmqpSink", "events.{event}", options


@contextmanager
def _redis(folder: Path) -> Iterator[Target]:
    with ValkeyServer(folder) as server:
        yield "outbox.sinks.redis_streams.RedisStreamSink", "events", {"url": server.url}


@contextmanager
def _sqs(folder: Path) -> Iterator[Target]:
    with AwsServer(folder) as server:
        queue = server.client("sqs").create_queue(QueueName="events")["QueueUrl"]
        yield "outbox.sinks.aws.SqsSink", queue, dict(server.options)


@contextmanager
def _http(folder: Path) -> Iterator[Target]:
    command = [sys.executable, "-m", "benchmarks.project.receiver"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout is not None
            port = int(receiver.stdout.readline())
            options = {"secrets": [f"whsec_{base64.b64encode(bytes(24)).decode()}"]}
            yield "outbox.sinks.http.HttpSink", f"http://127.0.0.1:{port}/", options
        finally:
            receiver.kill()


async def _create_stream(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="events", subjects=["events.>"])
    await client.close()


#: Servers, and the part of the events that each gets: some sync each message to the disk.
SERVERS = {
    "kafka": (_kafka, 1.0),
    "redis": (_redis, 1.0),
    "rabbitmq": (_rabbitmq, 0.5),
    "nats": (_nats, 0.1),
    "sqs": (_sqs, 0.1),
    "http": (_http, 0.1),
}

#: Brokers to which the best peer relays, and the part of the events that it relays.
PEER_SERVERS = {"redis": (_redis, 0.2), "rabbitmq": (_rabbitmq, 0.2)}


def measure(ground: Ground, quick: bool) -> Result:
    """Publish a backlog to each server by the sink, by the loop and by the peer, in turn."""
    most, repeats = (4_000, 1) if quick else (20_000, 5)
    figures: list[Figure] = []
    ratios: list[Ratio] = []
    for name, (server, share) in SERVERS.items():
        peers = int(most * PEER_SERVERS[name][1]) if name in PEER_SERVERS else 0
        found = _compared(ground, server, count=int(most * share), peers=peers, repeats=repeats)
        figures += [Figure(f"{name}, {who}", values, "events/s") for who, values in found.items()]
        against = {"loop": 0.5, "peer": 5} if peers else {"loop": 0.5}
        ratios += [
            Ratio.of(f"sink_vs_{side}_{name}", found["sink"], found[side], at_least=target)
            for side, target in against.items()
        ]
    notes = [
        "Kafka is an emulator (noida-db), unless KAFKA_BOOTSTRAP_SERVERS names a real one. SQS is "
        "moto. NATS and RabbitMQ sync to the disk before they acknowledge. The receiver of HTTP is "
        f"a process in Python that answers 204. The peer is {CELERY_OUTBOX.name} with two relays; "
        "it sends calls of Celery tasks, and awaits no acknowledgement."
    ]
    return Result(figures, ratios, notes)


def _compared(
    ground: Ground, server: Callable[[Path], Any], *, count: int, peers: int, repeats: int
) -> dict[str, list[float]]:
    with TemporaryDirectory(prefix="benchmark-sink-") as folder, server(Path(folder)) as target:
        sides = {
            "sink": partial(_by_the_sink, ground, target, count),
            "loop": partial(_by_the_loop, ground, target, count),
        }
        if peers:
            sides["peer"] = partial(_by_the_peer, ground, target, peers)
        return in_turn(sides, repeats=repeats)


def _side(target: Target) -> Side:
    backend, topic, options = target
    sink = {"BACKEND": backend, "EVENTS": ["ours.*"], "TOPIC": topic, "OPTIONS": options}
    side = ours(SINKS={"sink": sink}, SOURCE="/benchmark")
    return side.having(BENCHMARK_SINK_ONLY="1", BENCHMARK_TOPIC=topic)


def _by_the_sink(ground: Ground, target: Target, count: int) -> float:
    with ground.stage(_side(target)) as stage:
        stage.emit(count, "--batch", "500", "--events-only")
        ground.settle()
        stage.start_consumers()
        owed = "SELECT count(*) FROM outbox_delivery WHERE state = 'done'"
        stage.wait_until(lambda: int(stage.value(owed)) >= count, "all events are published")
        done, distinct = stage.query(
            "SELECT count(*), count(DISTINCT event_id) FROM outbox_delivery WHERE state = 'done'"
        )[0]
        require_effects(expected=count, effects=done, distinct=distinct, who="the sink")
        return float(stage.value(EVENTS_PER_SECOND))


def _by_the_loop(ground: Ground, target: Target, count: int) -> float:
    with ground.stage(_side(target)) as stage:
        stage.emit(count, "--batch", "500", "--events-only")
        ground.settle()
        return float(stage.call("benchmarks.project.ours.raw_publish", "sink", count))


def _by_the_peer(ground: Ground, target: Target, count: int) -> float:
    """Return the messages per second that the peer's relays add to the broker's queue."""
    url = str(target[2]["url"])
    side = CELERY_OUTBOX.side().having(BENCHMARK_BROKER_URL=url)
    with ground.stage(side) as stage, kombu.Connection(url) as connection:
        queue = kombu.Queue("celery")(connection.default_channel)
        queue.declare()
        queue.purge()  # of the round before: with Redis, `delete` leaves the messages of a queue
        for number in range(2):
            stage.start_command(f"relay-{number}", *CELERY_OUTBOX.plan.commands[0])
        with ThreadPoolExecutor() as beside:  # the relays may be done before `emit` has started
            growing = beside.submit(_growth, partial(_length, connection.default_channel), count)
            stage.start_module("emit", "benchmarks.project.emit", str(count), *BACKLOG)
            seen = growing.result()
        queue.delete()
    (began, first), (ended, last) = seen[0], seen[-1]
    require_effects(expected=count, effects=last, distinct=last, who="the peer")
    if len(seen) < 2:
        raise RuntimeError(f"All {count} messages of the peer were there at once: too few.")
    return (last - first) / (ended - began)


def _length(channel: Any) -> int:
    try:
        return int(channel.queue_declare("celery", passive=True).message_count)
    except ChannelError:  # Redis has no empty lists
        return 0


def _growth(length: Callable[[], int], count: int) -> list[tuple[float, int]]:
    """Return time and length of a queue each time that it is seen longer, until all are in it."""
    seen, changed = [(0.0, 0)], time.monotonic()
    while seen[-1][1] < count and time.monotonic() - changed < STANDSTILL:
        if (number := length()) > seen[-1][1]:
            changed = time.monotonic()
            seen.append((changed, number))
        time.sleep(LOOK_SECONDS)
    return seen[1:]


ROW = Row(
    "sinks",
    "events already emitted, published to each broker, 2 worker processes",
    "at least half of a loop that publishes the same messages in the same batches, and 5 times the "
    "best peer",
    measure,
)
