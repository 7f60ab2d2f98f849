"""AMQP source: queues of RabbitMQ, by kombu. It is imported here only.

A message is acknowledged after the database's commit. A message whose consumer is gone returns to
its queue. https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, ClassVar
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured

from .base import ReceivedMessage, Source, SourceUnavailable

logger = logging.getLogger("outbox.sources.amqp")

#: Seconds to wait for a connection.
_CONNECT = 10.0
#: Prefixes of attributes in the binding of CloudEvents for AMQP 1.0, which some senders use.
_OTHER_PREFIXES = ("cloudevents:", "cloudevents_")


class AmqpSource(Source):
    """Receives the messages of queues, which must exist.

    `OPTIONS`: `url`, "amqp://user:password@host:port/vhost", and arguments of `kombu.Connection`.
    """

    max_batch: ClassVar[int] = 200

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        self._kombu = _library()
        if not options.get("url"):
            raise ImproperlyConfigured(f'The AMQP source "{name}" needs the option "url".')
        try:
            self._addresses()
        except Exception:  # its text may quote the URL
            raise ImproperlyConfigured(
                f'The AMQP source "{name}" cannot read its OPTIONS. Check "url", whose password '
                "has to be percent-encoded, and the arguments of kombu.Connection."
            ) from None
        self._connection: Any = None
        self._channel: Any = None
        self._received: list[tuple[str, Any]] = []

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return the messages that have arrived."""
        try:
            self._consume()
            deadline = time.monotonic() + timeout
            while not self._received and (left := deadline - time.monotonic()) > 0:
                self._drain(left)
            while self._received and len(self._received) < max_messages and self._drain(0.001):
                pass
        except self._errors() as error:
            raise self._unavailable(error) from None
        found, self._received = self._received[:max_messages], self._received[max_messages:]
        return [_read(queue, one) for queue, one in found]

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Acknowledge each message."""
        try:
            for one in messages:
                one.handle.ack()
        except self._errors() as error:
            raise self._unavailable(error) from None

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Return the messages to their queues."""
        for one in messages:
            one.handle.requeue()

    def hold(self, messages: Sequence[ReceivedMessage]) -> None:
        """Exchange heartbeats. Messages that arrive, within the prefetch, are received later."""
        try:
            while self._drain(0.001):
                pass
        except self._errors() as error:
            raise self._unavailable(error) from None

    def keep_alive(self) -> None:
        """Close the connection: the server returns unread messages to other consumers."""
        self.close()

    def lag(self) -> int | None:
        """Return the number of messages in the queues, without those in hand."""
        try:
            return sum(self._depth(queue) for queue in self.topics)
        except self._errors() as error:
            raise self._unavailable(error) from None

    def check(self, *, timeout: float) -> Sequence[str]:
        """Ask whether the queues exist."""
        problems = []
        for queue in self.topics:
            try:
                self._depth(queue)
            except self._errors() as error:
                problems.append(str(self._unavailable(error, queue)))
        return problems

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        self._received = []
        if connection is not None:
            with suppress(*self._errors()):
                connection.close()

    def _consume(self) -> None:
        """Connect and consume, unless that is done."""
        if self._channel is not None:
            return
        channel = self._connected().default_channel
        channel.basic_qos(0, self.max_batch, False)
        for queue in self.topics:
            channel.basic_consume(
                queue,
                consumer_tag=f"outbox-{uuid4().hex}",
                callback=lambda message, queue=queue: self._received.append((queue, message)),
            )
        self._channel = channel

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _addresses(self) -> Any:
        """Return a connection that is not open."""
        others = {name: value for name, value in self.options.items() if name != "url"}
        return self._kombu.Connection(
            self.options["url"], **{"connect_timeout": _CONNECT, "heartbeat": 30, **others}
        )

    def _connect(self) -> Any:
        """Connect to the first host that can be reached."""
        addresses = self._addresses()
        for _further in addresses.alt[1:]:
            with suppress(*self._errors()):
                return self._opened(addresses, max_retries=0)
            addresses.maybe_switch_next()
        return self._opened(addresses, max_retries=1)

    def _opened(self, addresses: Any, *, max_retries: int) -> Any:
        """Connect to the host in turn."""
        from outbox.sinks.amqp_link import verified

        # kombu inserts one name into the options of TLS. So it may not go on to further hosts.
        connection = addresses.clone(ssl=verified(addresses), alternates=None)
        return connection.ensure_connection(
            max_retries=max_retries, reraise_as_library_errors=False
        )

    def _drain(self, seconds: float) -> bool:
        """Wait for events of the connection; return whether there was one."""
        try:
            self._connection.heartbeat_check()
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _depth(self, queue: str) -> int:
        # A connection of its own: that of the consumer would read messages meanwhile, and a
        # passive declaration of a missing queue closes its channel.
        with self._connect() as connection:
            channel = connection.default_channel
            return int(channel.queue_declare(queue, passive=True).message_count)

    def _errors(self) -> tuple[type[Exception], ...]:
        from amqp.exceptions import AMQPError

        return (AMQPError, OSError, self._kombu.exceptions.KombuError)

    def _unavailable(self, error: Exception, queue: str = "") -> SourceUnavailable:
        """Return the error of the source. An error's own text may contain the URL.

        The messages in hand stay with this process until it closes the source.
        """
        code = getattr(error, "reply_code", "")
        queues = queue or ", ".join(self.topics)
        reason = f"{type(error).__name__} {code}".strip()
        return SourceUnavailable(
            f"RabbitMQ does not serve the queue {queues} of the source {self.name} ({reason}). "
            "Check that it runs, the url, the permissions, and that the queue exists."
        )


def _library() -> Any:
    try:
        import amqp  # noqa: F401  the transport of kombu that is used
        import kombu
    except ImportError as error:
        raise ImproperlyConfigured('The AMQP source needs kombu (extra "amqp").') from error
    return kombu


def _read(queue: str, message: Any) -> ReceivedMessage:
    properties = message.properties
    headers = {
        _header(str(name)): _text(value)
        for name, value in (properties.get("application_headers") or {}).items()
    }
    if kind := properties.get("content_type"):
        headers["content-type"] = kind
    body = message.body
    body = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    return ReceivedMessage(
        position=_position(properties, queue, body),
        topic=queue,
        key=str(message.delivery_info.get("routing_key", "")),
        headers=headers,
        body=body,
        handle=_Receipt(message),
    )


class _Receipt:
    """Acknowledges one message of py-amqp."""

    def __init__(self, message: Any) -> None:
        self._channel, self._tag = message.channel, message.delivery_tag

    def ack(self) -> None:
        self._channel.basic_ack(self._tag)

    def requeue(self) -> None:
        from amqp import spec

        # From RabbitMQ 4.3 on, only basic.reject counts against the delivery limit. py-amqp has no
        # method for basic.nack. https://www.rabbitmq.com/docs/4.3/nack
        self._channel.send_method(spec.Basic.Nack, "Lbb", (self._tag, False, True))


def _header(name: str) -> str:
    lower = name.lower()
    for prefix in _OTHER_PREFIXES:
        if lower.startswith(prefix):
            return f"ce-{lower.removeprefix(prefix)}"
    return lower


def _text(value: Any) -> str:
    """Return the value of a header as CloudEvents writes it. py-amqp reads times as naive UTC."""
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)


def _position(properties: Mapping[str, Any], queue: str, body: bytes) -> str:
    """Return the sender's message id, else a hash: AMQP itself gives messages no identity."""
    from hashlib import sha256

    given = properties.get("message_id")
    return f"{queue}/{given}" if given else f"{queue}/sha256:{sha256(body).hexdigest()}"
