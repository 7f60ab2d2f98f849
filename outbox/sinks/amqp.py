"""The AMQP sink: a topic exchange of RabbitMQ, by kombu and py-amqp (AMQP 0-9-1).

The routing key is the sink's topic. Each message is persistent and `mandatory`. RabbitMQ confirms
it after its queues have stored it, on a majority of nodes for quorum queues, and returns it first
if no queue takes it. https://www.rabbitmq.com/docs/confirms

The attributes of CloudEvents are headers with the prefix `ce-`, as in the binding for RabbitMQ that
CloudEvents' SDKs implement. The prefix `cloudEvents_` belongs to the binding for AMQP 1.0.
https://github.com/knative-extensions/eventing-rabbitmq/blob/main/cloudevents-protocol-spec/spec.md
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.receipt import PermanentFailure

from .base import Sink, SinkMessage, SinkUnavailable
from .deadline import Deadline

try:
    import amqp
    import kombu
    from amqp.exceptions import (
        AccessRefused,
        AMQPError,
        ChannelError,
        NotFound,
        PreconditionFailed,
    )
except ImportError:  # the constructor names the missing library
    if not TYPE_CHECKING:
        amqp = kombu = None

#: Bytes of a routing key, by the protocol.
LONGEST_ROUTING_KEY = 255
#: RabbitMQ's own default, `max_message_size`, since 4.0.
MAX_BYTES = 16 * 1024 * 1024

_OWN_OPTIONS = {"url", "exchange", "declare", "max_bytes"}
_PERSISTENT = 2


class MessageUnroutable(Exception):
    """No queue is bound to the exchange for this routing key. The delivery is retried."""


class MessageRefused(Exception):
    """RabbitMQ did not take the responsibility for this message. The delivery is retried."""


class AmqpSink(Sink):
    """Publishes to a topic exchange. A message is acknowledged when RabbitMQ has confirmed it.

    All messages of a call are sent before the first confirm is awaited.

    Options:
        url: "amqp://user:password@host:port/vhost", or "amqps://". Several hosts for failover are
            separated by ";".
        exchange: name of the exchange.
        declare: True creates a durable topic exchange. By default it must exist.
        max_bytes: `max_message_size` of the server, if it is not 16 MiB.
        Others are arguments of `kombu.Connection`, for example `ssl`.

    Raises:
        ImproperlyConfigured: kombu is not installed, or an option is missing or invalid.
    """

    header_prefix: ClassVar[str] = "ce-"
    max_bytes = MAX_BYTES

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if kombu is None:
            raise ImproperlyConfigured(f'The AMQP sink "{name}" needs kombu (extra "amqp").')
        for option in ("url", "exchange"):
            if not options.get(option):
                raise ImproperlyConfigured(f'The AMQP sink "{name}" needs the option "{option}".')
        self.max_bytes = int(options.get("max_bytes", MAX_BYTES))
        self._exchange = str(options["exchange"])
        self._addresses = self._parse_addresses()
        self._link: _Link | None = None

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Publish all messages, then await all confirms. See `Sink.publish`."""
        deadline = Deadline(timeout)
        results = self._send(messages, deadline)
        refused = [one for one, result in enumerate(results) if isinstance(result, _ChannelClosed)]
        if refused and len(messages) > 1:
            # RabbitMQ closes the channel and does not name the message that it objects to.
            alone = self._send_one_by_one([messages[one] for one in refused], deadline)
            for one, result in zip(refused, alone, strict=True):
                results[one] = result
        return [self._objection(result) for result in results]

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Return the problems of connection, login, exchange and routing keys.

        AMQP lists neither bindings nor permissions, so these are not checked. An event without a
        binding is an error at its first publish.
        """
        try:
            self._usable_link(Deadline(timeout))
        except SinkUnavailable as error:
            return [str(error)]
        return [
            f'The topic "{topic}" of the sink "{self.name}" has more than {LONGEST_ROUTING_KEY} '
            "bytes, the limit of a routing key. Shorten TOPIC."
            for topic in topics
            if _is_too_long(topic)
        ]

    def close(self) -> None:
        """Close the connection of this process."""
        link, self._link = self._link, None
        if link is not None and link.pid == os.getpid():
            link.close()

    def _parse_addresses(self) -> kombu.Connection:
        others = {key: value for key, value in self.options.items() if key not in _OWN_OPTIONS}
        try:
            return kombu.Connection(self.options["url"], **others)
        except Exception:  # its text may quote the URL
            raise ImproperlyConfigured(
                f'The AMQP sink "{self.name}" cannot read its OPTIONS. Check "url" and the '
                "arguments of kombu.Connection."
            ) from None

    def _send_one_by_one(
        self, messages: Sequence[SinkMessage], deadline: Deadline
    ) -> list[Exception | None]:
        results: list[Exception | None] = []
        for message in messages:
            try:
                results += self._send([message], deadline)
            except SinkUnavailable as error:
                return results + [error] * (len(messages) - len(results))
        return results

    def _send(self, messages: Sequence[SinkMessage], deadline: Deadline) -> list[Exception | None]:
        link = self._usable_link(deadline)
        batch = _Batch(messages)
        for index, message in enumerate(messages):
            if reason := self._impossible(message):
                batch.settle(index, PermanentFailure(reason))
        try:
            with link.confirming(batch):
                link.send(batch, self._exchange, deadline)
                link.await_confirms(batch, deadline)
        except ChannelError as error:
            self._drop()
            batch.fail(_ChannelClosed(error))
        except (AMQPError, OSError) as error:
            self._drop()
            batch.fail(self._unavailable(error))
        except BaseException:  # a time limit may have interrupted half a frame
            self._drop()
            raise
        batch.fail(self._blocked())  # if some are still open, the server has blocked publishers
        return batch.results

    def _impossible(self, message: SinkMessage) -> str:
        """Return the reason why this message cannot be sent at all, or ""."""
        if _is_too_long(message.topic):
            return (
                f"The routing key has {len(message.topic.encode())} bytes; AMQP allows "
                f"{LONGEST_ROUTING_KEY}. Shorten TOPIC."
            )
        if len(message.body) > self.max_bytes:
            return f"The body has {len(message.body)} bytes; the limit is {self.max_bytes}."
        return ""

    def _usable_link(self, deadline: Deadline) -> _Link:
        """Return a link to a server that takes messages.

        Raises:
            SinkUnavailable: there is none.
        """
        link = self._link
        if link is not None and link.pid == os.getpid() and link.is_alive(deadline):
            if link.is_blocked:
                raise self._blocked()
            return link
        try:
            self._link = _Link(self._addresses, deadline)
            self._link.find_exchange(self._exchange, bool(self.options.get("declare")))
        except NotFound as error:
            self._drop()
            raise SinkUnavailable(
                f'The exchange "{self._exchange}" of the sink "{self.name}" does not exist. '
                'Create it as a durable topic exchange, or set the option "declare".'
            ) from error
        except (AMQPError, OSError) as error:
            self._drop()
            self._addresses.maybe_switch_next()
            raise self._unavailable(error) from error
        except BaseException:
            self._drop()
            raise
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(f'RabbitMQ of the sink "{self.name}": {_reason(error)}')

    def _objection(self, result: Exception | None) -> Exception | None:
        """Return the meaning of a closed channel for the only message on it."""
        if not isinstance(result, _ChannelClosed):
            return result
        text = _reason(result.error)
        if isinstance(result.error, PreconditionFailed) and "message size" in text:
            return PermanentFailure(f"The message is too large. RabbitMQ: {text}")
        if isinstance(result.error, AccessRefused) and "access to topic" in text:
            return MessageRefused(text)  # a permission for this routing key alone
        if isinstance(result.error, AccessRefused | NotFound):
            return self._unavailable(result.error)
        return MessageRefused(text)

    def _blocked(self) -> SinkUnavailable:
        return SinkUnavailable(
            f'RabbitMQ of the sink "{self.name}" blocks publishers: a memory or disk alarm.'
        )


class _ChannelClosed(Exception):
    """The server closed the channel: it objects to a message, to this one if it was alone."""

    def __init__(self, error: ChannelError) -> None:
        super().__init__(str(error))
        self.error = error


class _Batch:
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


class _Link:
    """A connection with one channel in confirm mode, of one process.

    Raises:
        AMQPError, OSError: the server cannot be reached, or refuses the login.
    """

    def __init__(self, addresses: kombu.Connection, deadline: Deadline) -> None:
        self.pid = os.getpid()
        self.is_blocked = False
        self._tags = 0
        self._index_by_tag: dict[int, int] = {}
        self._batch: _Batch | None = None
        self._connection = self._connect(addresses, deadline)
        self._limit(deadline)
        channel: Any = self._connection.channel()
        self._channel = channel
        self._channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def _connect(self, addresses: kombu.Connection, deadline: Deadline) -> amqp.Connection:
        given = addresses.clone(connect_timeout=deadline.left(), ssl=_verified(addresses))
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

    @contextlib.contextmanager
    def confirming(self, batch: _Batch) -> Iterator[None]:
        """Assign the confirms that arrive in the block to the batch. Later ones are ignored."""
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None
            self._index_by_tag.clear()

    def send(self, batch: _Batch, exchange: str, deadline: Deadline) -> None:
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

    def await_confirms(self, batch: _Batch, deadline: Deadline) -> None:
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


def _verified(addresses: kombu.Connection) -> Any:
    """Return the TLS options, by default with a check of the host name, which py-amqp omits."""
    if addresses.ssl is True or addresses.transport_cls == "amqps":
        return {"server_hostname": None}  # kombu inserts the host of the URL
    if isinstance(addresses.ssl, dict):
        return {"server_hostname": None, **addresses.ssl}
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


def _is_too_long(topic: str) -> bool:
    return len(topic.encode()) > LONGEST_ROUTING_KEY


def _reason(error: Exception) -> str:
    """Return the server's text, or the kind of the error. Neither contains the URL."""
    if isinstance(error, TimeoutError):
        return "no answer within the time limit."
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}."
    text = str(getattr(error, "reply_text", "") or "").strip() or type(error).__name__
    return text if text.endswith(".") else f"{text}."
