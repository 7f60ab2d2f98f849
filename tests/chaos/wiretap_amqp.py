"""The wiretap of AMQP: the node's tracer copies each message; queues are read by `basic_get`.

A tap's own queue is auto-deleted, and gone with the node. What waits in a queue is taken whole, and
sent again in another order. If the node goes away meanwhile the messages are lost, as by a flush.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import amqp
from kombu import Connection
from kombu.exceptions import OperationalError

from tests.chaos.wiretap import MOST_KEPT, MOST_REPLAYED, PATIENCE

TRACER = "amq.rabbitmq.trace"
#: What the broker's absence raises, in all its kinds.
AWAY = (OSError, amqp.exceptions.AMQPError, OperationalError)


class AmqpWiretap:
    def __init__(self, url: str, *, queues: Sequence[str]) -> None:
        self._url, self._queues = url, set(queues)
        self._caught: list[tuple[str, amqp.Message]] = []
        self._channel: Any = None
        self._tap = ""

    def record(self) -> None:
        """Record the messages that were published since the last call."""
        try:
            if self._channel is None:
                self._begin()
            while traced := self._channel.basic_get(self._tap, no_ack=True):
                self._keep(traced)
        except AWAY:
            self._channel = None  # the next call starts again

    def replay(self, rng: Random) -> None:
        """Send the recorded messages again, in another order."""
        with contextlib.suppress(*AWAY), self._open() as channel:
            number = min(MOST_REPLAYED, len(self._caught))
            for queue, message in rng.sample(self._caught, number):
                channel.basic_publish(message, routing_key=queue)

    def shuffle(self, rng: Random) -> None:
        """Reverse the order of every queue."""
        for queue in sorted(self._queues):
            # One that is not declared closes its channel: a new one for each.
            with contextlib.suppress(*AWAY), self._open() as channel:
                self._shuffle(channel, queue, rng)

    def _shuffle(self, channel: Any, queue: str, rng: Random) -> None:
        taken = list(iter(lambda: channel.basic_get(queue, no_ack=True), None))
        for message in rng.sample(taken, len(taken)):
            channel.basic_publish(_copy(message), routing_key=queue)

    def _begin(self) -> None:
        self._connection = Connection(self._url, connect_timeout=PATIENCE)
        self._channel = self._connection.channel()
        self._tap = self._channel.queue_declare("", exclusive=True).queue
        self._channel.queue_bind(self._tap, TRACER, "publish.#")

    def _keep(self, traced: amqp.Message) -> None:
        for queue in _headers(traced)["routing_keys"]:
            if queue in self._queues and len(self._caught) < MOST_KEPT:
                self._caught.append((queue, _original(traced)))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with Connection(self._url, connect_timeout=PATIENCE) as connection:
            yield connection.channel()


def _copy(message: amqp.Message) -> amqp.Message:
    return amqp.Message(message.body, **message.properties)


def _original(traced: amqp.Message) -> amqp.Message:
    """Return the traced message: the same body, and its properties in a header."""
    properties = dict(_headers(traced)["properties"])
    properties["application_headers"] = properties.pop("headers", {})
    return amqp.Message(traced.body, **properties)


def _headers(message: amqp.Message) -> dict[str, Any]:
    return message.headers or {}
