"""Apache Kafka and systems with its protocol, by confluent-kafka.

Each message is acknowledged by all in-sync replicas (`acks=all`) through an idempotent producer.
The event's key is the message's key, so events of one key are in one partition, in order.
CloudEvents attributes are headers with the prefix `ce_`, see "Kafka Protocol Binding for
CloudEvents", version 1.0.2. Kafka has no deduplication id: a repeated event is stored again, with
the same `ce_id`.

`OPTIONS` are properties of librdkafka, as confluent-kafka takes them: `bootstrap.servers`,
`security.protocol`, `sasl.username`, callables such as `oauth_cb`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from outbox.receipt import PermanentFailure

from . import kafka_check, kafka_client
from .base import Encoding, Sink, SinkMessage, SinkUnavailable

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

logger = logging.getLogger("outbox.sinks")

#: Errors that no retry can help. Names: https://kafka.apache.org/protocol#protocol_error_codes.
_TOO_LARGE = "MSG_SIZE_TOO_LARGE"
_PERMANENT = {_TOO_LARGE, "INVALID_RECORD", "_INVALID_ARG", "_BAD_MSG"}
#: Errors about one topic. The connection is in order.
_OF_A_TOPIC = {"UNKNOWN_TOPIC_OR_PART", "TOPIC_EXCEPTION", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"}
#: Errors that stay until somebody corrects credentials or certificates.
_REFUSALS = {"_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED"}
_ALL_DOWN = "_ALL_BROKERS_DOWN"
_TIMED_OUT = "_MSG_TIMED_OUT"

#: Shares of a call's time after which messages expire, and are withdrawn.
_EXPIRY, _WITHDRAWAL = 0.8, 0.9
#: Seconds between two checks for signals, and for refused credentials.
_SLICE = 0.2
#: Seconds after which a topic that no broker knows counts as missing.
_LONGEST_PROPAGATION = 5.0


class NotPublished(Exception):
    """Kafka refused a message because of its topic. The text names the topic and the cause."""


class KafkaSink(Sink):
    """Publishes to Kafka topics.

    `OPTIONS` override the properties that this class sets, except `acks` and
    `enable.idempotence`. The default `partitioner` is that of Java clients, so all producers of a
    topic choose the same partition for a key. A message may have `message.max.bytes` bytes.

    Raises:
        ImproperlyConfigured: confluent-kafka is missing, an option weakens the guarantee, or no
            broker is named.
    """

    encoding: ClassVar[Encoding] = "binary"
    header_prefix: ClassVar[str] = "ce_"
    max_batch = 1000

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._owner = f'sink "{name}"'
        kafka_client.require_client("The Kafka sink")
        kafka_client.refuse_bad_options(self._owner, options)
        self.max_bytes = kafka_client.max_bytes(self._owner, options)
        self._held = kafka_client.ClientOfProcess()
        self._trouble: set[str] = set()

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send messages, and wait for the acknowledgement of each. See `Sink.publish`."""
        deadline = time.monotonic() + timeout * _WITHDRAWAL
        self._trouble.clear()
        call = _Call(self._current_producer(timeout), messages)
        try:
            call.send()
            self._wait(call, deadline)
            self._send_alone(call, deadline)
        except BaseException:  # for example a time limit: the rest must not be sent later
            self._discard()
            raise
        if call.is_open or call.is_in_doubt:
            self._discard()
        return [self._error(*one) for one in zip(messages, call.results, strict=True)]

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Ask the brokers for topics, permissions and size limits. See `Sink.check`."""
        assert self.max_bytes is not None
        return kafka_check.problems(
            self._owner,
            self._configuration(timeout),
            topics,
            max_bytes=self.max_bytes,
            timeout=timeout,
        )

    def close(self) -> None:
        """Close connections, and withdraw the messages of an interrupted call."""
        self._discard()

    # --- the producer -------------------------------------------------------------------------

    def _current_producer(self, timeout: float) -> Producer:
        if self._held.client is None:
            self._held.client = self._new_producer(timeout)
        producer: Producer = self._held.client
        return producer

    def _new_producer(self, timeout: float) -> Producer:
        from confluent_kafka import KafkaException, Producer

        configuration = self._configuration(timeout)
        note = partial(self._note, configuration.get("error_cb"))
        try:
            return Producer({**configuration, "error_cb": note})
        except (KafkaException, TypeError, ValueError) as error:
            raise kafka_client.refused_options(self._owner, error) from None

    def _configuration(self, timeout: float) -> dict[str, Any]:
        propagation = min(_LONGEST_PROPAGATION, timeout / 2)
        ours: dict[str, Any] = {
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "topic.metadata.propagation.max.ms": int(propagation * 1000),
            "logger": logger,
            # At the next level librdkafka logs each failed attempt to connect, with no limit.
            "log_level": 2,
        }
        if "message.timeout.ms" not in self.options:  # the older name of the same property
            ours["delivery.timeout.ms"] = max(int(timeout * _EXPIRY * 1000), 100)
        return {**ours, **self.options}

    def _note(self, given: Callable[[KafkaError], object] | None, error: KafkaError) -> None:
        """Record an error of a connection. librdkafka itself connects again."""
        self._trouble.add(error.name())
        if given is not None:
            given(error)

    def _discard(self) -> None:
        """Withdraw all messages, and let the next call create a producer."""
        producer, self._held.client = self._held.client, None
        if producer is not None:
            producer.purge()
            _flush(producer, _SLICE)

    # --- one call -----------------------------------------------------------------------------

    def _wait(self, call: _Call, deadline: float) -> None:
        """Wait for results until the deadline, or until the brokers refuse the credentials."""
        while call.is_open and not self._is_refused:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            _flush(call.producer, min(_SLICE, left))

    @property
    def _is_refused(self) -> bool:
        """Whether no broker can be reached, and one has refused the credentials."""
        return _ALL_DOWN in self._trouble and not _REFUSALS.isdisjoint(self._trouble)

    def _send_alone(self, call: _Call, deadline: float) -> None:
        """Repeat messages of a request that was too large, each in a request of its own.

        A topic's `max.message.bytes` limits all messages of a request together. librdkafka does not
        divide a request that a broker has refused.
        """
        for number in call.refused_together():
            call.send_one(number)
            self._wait(call, deadline)

    def _error(self, message: SinkMessage, name: str | None) -> Exception | None:
        if name is None:
            return None
        refused = f"Kafka refuses a message of {self._owner} for topic {message.topic}"
        cause = kafka_client.in_words(name)
        if name in _PERMANENT:
            return PermanentFailure(
                f"{refused} ({message.size} bytes): {cause}. Reduce the event, or raise the limit."
            )
        if name in _OF_A_TOPIC:
            return NotPublished(
                f"{refused}: {cause}. Create the topic, or correct TOPIC of the sink."
            )
        return SinkUnavailable(
            f"Kafka did not acknowledge a message of {self._owner} for topic {message.topic}: "
            f"{cause}.{self._trouble_in_words()} It is sent again."
        )

    def _trouble_in_words(self) -> str:
        if not self._trouble:
            return ""
        cause = kafka_client.in_words(kafka_client.most_specific(self._trouble))
        return f" Error of the connection: {cause}."


class _Call:
    """The messages of one call of `publish`.

    Each callback belongs to its call, so a late acknowledgement never counts for a later one.

    Attributes:
        results: by message: None if acknowledged, else the error's name. `_TIMED_OUT` if unknown.
        is_in_doubt: whether the producer must not send again. After a fatal error it cannot; after
            a message of unknown result its sequence numbers may have a gap.
    """

    def __init__(self, producer: Producer, messages: Sequence[SinkMessage]) -> None:
        self.producer = producer
        self.results: list[str | None] = [_TIMED_OUT for _ in messages]
        self.is_in_doubt = False
        self._messages = messages
        self._queued: set[int] = set()
        self._open: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether the result of a message is not yet known."""
        return bool(self._open)

    def send(self) -> None:
        """Queue all messages."""
        for number in range(len(self._messages)):
            self.send_one(number)

    def send_one(self, number: int) -> None:
        """Queue a message. If librdkafka does not take it, the error is its result."""
        from confluent_kafka import KafkaException

        message = self._messages[number]
        self.results[number] = _TIMED_OUT
        try:
            self.producer.produce(
                message.topic,
                value=message.body,
                key=message.key.encode() or None,
                headers=[(name, value.encode()) for name, value in message.headers.items()],
                on_delivery=partial(self._settle, number),
            )
        except KafkaException as error:
            self._settle(number, error.args[0], None)
        except BufferError:
            self.results[number] = "_QUEUE_FULL"
        else:
            self._queued.add(number)
            self._open.add(number)

    def refused_together(self) -> list[int]:
        """Return the messages that a broker refused as too large, if they had company."""
        if len(self._queued) < 2:
            return []
        return [one for one in sorted(self._queued) if self.results[one] == _TOO_LARGE]

    def _settle(self, number: int, error: KafkaError | None, _message: Message | None) -> None:
        self._open.discard(number)
        if error is None:
            self.results[number] = None
            return
        name = error.name()
        self.results[number] = _TIMED_OUT if name.startswith("_PURGE") else name
        if name not in _PERMANENT | _OF_A_TOPIC:
            self.is_in_doubt = True


def _flush(producer: Producer, seconds: float) -> None:
    """Call the callbacks of settled messages until none is left.

    It raises a fatal error of the producer, which is then also the result of each message.
    """
    from confluent_kafka import KafkaException

    with suppress(KafkaException):
        producer.flush(seconds)
