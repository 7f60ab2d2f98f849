"""One connection of the AMQP sink: a channel in confirm mode, and the results of its messages.

py-amqp awaits the confirm of each message before the next one. Here all messages are sent first;
the delivery tags of the confirms then lead to their messages.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Sequence
from typing import Any

import amqp
import kombu
from amqp.exceptions import AMQPError

from .base import SinkMessage
from .deadline import Deadline

_PERSISTENT = 2


class MessageUnroutable(Exception):
    """No queue is bound to the exchange for this routing key. The delivery is retried."""


class MessageRefused(Exception):
    """RabbitMQ did not take the responsibility for this message. The delivery is retried."""


class Batch:
    """The messages of one call, and the results known so far."""

    def __init__(self, messages: Sequence[SinkMessage]) -> None:
        self.messages = messages
        self.results: list[Exception | None] = [None] * len(messages)
        self.is_open = [True] * len(messages)

    @property
    def has_open(self) -> bool:
        """Whether a result is not known yet."""
        return any(self.is_open)

    def settle(self, index: int, error: Exception | None) -> None:
        if self.is_open[index]:
            self.is_open[index] = False
            self.results[index] = self.results[index] or error

    def fail(self, error: Exception) -> None:
        """Set the error of all messages without a result."""
        for index in range(len(self.messages)):
            self.settle(index, error)

    def note_return(self, message_id: str, error: Exception) -> None:
        """Record that the server returned a message. Its confirm follows."""
        for index, message in enumerate(self.messages):
            if message.id == message_id and self.is_open[index] and not self.results[index]:
                self.results[index] = error
                return


class Link:
    """A connection with one channel in confirm mode, of one process.

    Raises:
        AMQPError, OSError: the server cannot be reached, or refuses the login.
    """

    def __init__(self, addresses: kombu.Connection, deadline: Deadline) -> None:
        self.pid = os.getpid()
        self.is_blocked = False
        self._tags = 0
        self._index_by_tag: dict[int, int] = {}
        self._batch: Batch | None = None
        self._connection = self._connect(addresses, deadline)
        self._channel: Any = None
        try:
            self._limit(deadline)
            self._channel = self._connection.channel()
            self._channel.confirm_select()
        except BaseException:
            self.drop()
            raise
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def _connect(self, addresses: kombu.Connection, deadline: Deadline) -> amqp.Connection:
        given = addresses.clone(connect_timeout=deadline.left(), ssl=verified(addresses))
        given.transport_options = {
            **(given.transport_options or {}),
            "on_blocked": lambda _reason: self._note_blocked(True),
            "on_unblocked": lambda: self._note_blocked(False),
        }
        connection: amqp.Connection = given.transport.establish_connection()
        return connection

    def find_exchange(self, name: str, declare: bool) -> None:
        self._channel.exchange_declare(
            name, "topic", passive=not declare, durable=True, auto_delete=False
        )

    def is_alive(self, deadline: Deadline) -> bool:
        """Read frames that have arrived since the last call, and return whether it is connected."""
        try:
            self._limit(deadline)
            self._read_arrived()
        except (AMQPError, OSError):
            self.drop()
            return False
        return bool(self._connection.connected)

    def publish(self, batch: Batch, exchange: str, deadline: Deadline) -> None:
        """Send the open messages, then await their confirms. Later confirms are ignored.

        Messages stay open if the server blocks publishers.

        Raises:
            ChannelError: the server objects to one of them.
            AMQPError, OSError: the connection is lost, or the time limit has passed.
        """
        self._batch = batch
        try:
            self.send(batch, exchange, deadline)
            self.await_confirms(batch, deadline)
        finally:
            self._batch = None
            self._index_by_tag.clear()

    def send(self, batch: Batch, exchange: str, deadline: Deadline) -> None:
        """Publish all messages. Stop if the server blocks publishers."""
        for index, message in enumerate(batch.messages):
            if not batch.is_open[index]:
                continue
            if self.is_blocked:
                return
            self._tags += 1
            self._index_by_tag[self._tags] = index
            self._channel.basic_publish(
                _encoded(message),
                exchange=exchange,
                routing_key=message.topic,
                mandatory=True,
                timeout=deadline.left(),
            )
            self._read_arrived()

    def await_confirms(self, batch: Batch, deadline: Deadline) -> None:
        """Read until each message has its confirm, or the server blocks publishers."""
        while batch.has_open and not self.is_blocked:
            self._limit(deadline)
            if deadline.has_passed:
                raise TimeoutError
            self._connection.blocking_read()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.transport.sock.settimeout(1)
            self._connection.close()
        self.drop()

    def drop(self) -> None:
        """Close the socket, without a good-bye that a frozen server would not answer."""
        with contextlib.suppress(Exception):
            self._connection.collect()

    def _limit(self, deadline: Deadline) -> None:
        """Limit reads and writes. py-amqp waits without a limit for the answer of a method."""
        self._connection.transport.sock.settimeout(deadline.left())

    def _read_arrived(self) -> None:
        while self._connection.connected:
            readable, _, _ = select.select([self._connection.transport.sock], [], [], 0)
            if not readable:
                return
            self._connection.blocking_read()

    def _note_blocked(self, is_blocked: bool) -> None:
        self.is_blocked = is_blocked

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple, None)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple, MessageRefused("RabbitMQ refused the message (basic.nack)."))

    def _settle(self, tag: int, multiple: bool, error: Exception | None) -> None:
        first = min(self._index_by_tag, default=tag) if multiple else tag
        for one in range(first, tag + 1):
            index = self._index_by_tag.pop(one, None)
            if index is not None and self._batch is not None:
                self._batch.settle(index, error)

    def _on_return(
        self, error: Exception, exchange: str, routing_key: str, message: amqp.Message
    ) -> None:
        if self._batch is not None:
            text = (
                f'No queue is bound to the exchange "{exchange}" for the routing key '
                f'"{routing_key}". Bind one.'
            )
            self._batch.note_return(
                message.properties.get("message_id", ""), MessageUnroutable(text)
            )


def verified(addresses: kombu.Connection) -> Any:
    """Return the TLS options, by default with a check of the host name, which py-amqp omits."""
    if isinstance(addresses.ssl, dict):
        return {"server_hostname": None, **addresses.ssl}  # kombu inserts the host of the URL
    if addresses.ssl is True or addresses.transport_cls == "amqps":
        return {"server_hostname": None}
    return addresses.ssl


def _encoded(message: SinkMessage) -> amqp.Message:
    headers = dict(message.headers)
    content_type = headers.pop("content-type", "application/json")
    return amqp.Message(
        message.body,
        application_headers=headers,
        content_type=content_type,
        delivery_mode=_PERSISTENT,
        message_id=message.id,
        timestamp=int(message.event.emitted_at.timestamp()),
        type=message.event.name,
    )


def reason_of(error: Exception) -> str:
    """Return the server's text, or the kind of the error. Neither contains the URL."""
    if isinstance(error, TimeoutError):
        return "no answer within the time limit."
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}."
    text = str(getattr(error, "reply_text", "") or "").strip() or type(error).__name__
    return text if text.endswith(".") else f"{text}."
