"""The AMQP sink: a topic exchange of RabbitMQ, by kombu and py-amqp (AMQP 0-9-1).

The routing key is the sink's topic. Each message is persistent and `mandatory`. RabbitMQ confirms
it after its queues have stored it, on a majority of nodes for quorum queues, and returns it first
if no queue takes it. https://www.rabbitmq.com/docs/confirms

The attributes of CloudEvents are headers with the prefix `ce-`, as in the binding for RabbitMQ that
CloudEvents' SDKs implement. The prefix `cloudEvents_` belongs to the binding for AMQP 1.0.
https://github.com/knative-extensions/eventing-rabbitmq/blob/main/cloudevents-protocol-spec/spec.md
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.options import number
from outbox.receipt import PermanentFailure

from .base import Sink, SinkMessage, SinkUnavailable
from .deadline import Deadline

try:
    import kombu
    from amqp.exceptions import (
        AccessRefused,
        AMQPError,
        ChannelError,
        NotFound,
        PreconditionFailed,
    )

    from .amqp_link import Batch, Link, MessageRefused, reason_of
except ImportError:  # the constructor names the missing library
    if not TYPE_CHECKING:
        kombu = None

#: Bytes of a routing key, by the protocol.
LONGEST_ROUTING_KEY = 255
#: RabbitMQ's own default, `max_message_size`, since 4.0.
MAX_BYTES = 16 * 1024 * 1024

_OWN_OPTIONS = {"url", "exchange", "declare", "max_bytes"}


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
    max_batch = 1000

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if kombu is None:
            raise ImproperlyConfigured(f'The AMQP sink "{name}" needs kombu (extra "amqp").')
        for option in ("url", "exchange"):
            if not options.get(option):
                raise ImproperlyConfigured(f'The AMQP sink "{name}" needs the option "{option}".')
        self.max_bytes = number(f'the sink "{name}"', options, "max_bytes", MAX_BYTES)
        self._exchange = str(options["exchange"])
        self._addresses = self._parse_addresses()
        self._link: Link | None = None

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
        batch = Batch(messages)
        for index, message in enumerate(messages):
            if reason := self._impossible(message):
                batch.settle(index, PermanentFailure(reason))
        try:
            link.publish(batch, self._exchange, deadline)
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

    def _usable_link(self, deadline: Deadline) -> Link:
        """Return a link to a server that takes messages.

        Raises:
            SinkUnavailable: there is none.
        """
        if self._link is not None and self._link.pid != os.getpid():
            self._link = None  # the parent's: closing it here would end its connection
        if self._link is None or not self._link.is_alive(deadline):
            self._link = None
            self._link = self._new_link(deadline)
        if self._link.is_blocked:
            raise self._blocked()
        return self._link

    def _new_link(self, deadline: Deadline) -> Link:
        try:
            link = Link(self._addresses, deadline)
            try:
                link.find_exchange(self._exchange, bool(self.options.get("declare")))
            except BaseException:
                link.drop()
                raise
        except NotFound as error:
            raise SinkUnavailable(
                f'The exchange "{self._exchange}" of the sink "{self.name}" does not exist. '
                'Create it as a durable topic exchange, or set the option "declare".'
            ) from error
        except (AMQPError, OSError) as error:
            self._addresses.maybe_switch_next()
            raise self._unavailable(error) from error
        return link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(f'RabbitMQ of the sink "{self.name}": {reason_of(error)}')

    def _objection(self, result: Exception | None) -> Exception | None:
        """Return the meaning of a closed channel for the only message on it."""
        if not isinstance(result, _ChannelClosed):
            return result
        text = reason_of(result.error)
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


def _is_too_long(topic: str) -> bool:
    return len(topic.encode()) > LONGEST_ROUTING_KEY
