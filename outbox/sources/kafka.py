"""Kafka source: a consumer of a group. confluent-kafka is imported here only.

Offsets are committed after the database's commit. A message is never skipped: it is stored as an
event or as received, so nothing blocks its partition. https://kafka.apache.org/documentation/#theconsumer
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured

from outbox.sinks.kafka_client import refused_options

from .base import ReceivedMessage, Source, SourceUnavailable

logger = logging.getLogger("outbox.sources.kafka")

#: Seconds that one request to a broker may take.
_REQUEST = 10.0

#: Options that the source sets itself.
_OWN = {"enable.auto.commit": False, "enable.auto.offset.store": False}


class KafkaSource(Source):
    """Receives the messages of topics as a member of a consumer group.

    `OPTIONS` are options of librdkafka. A group without offsets begins with the oldest message
    (`auto.offset.reset` "earliest"). `log_level` is 2 unless they set it. `enable.auto.commit` and
    `group.id` are the source's.
    """

    header_prefix: ClassVar[str] = "ce_"
    needs_group: ClassVar[bool] = True

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        self._client = _library()
        given = {"error_cb": self._note_error, **_consumer_options(name, group, options)}
        try:
            self._consumer = self._client.Consumer(given)
        except (self._client.KafkaException, TypeError, ValueError) as error:
            raise refused_options(f'source "{name}"', error) from None
        #: An error of all connections, since the last message.
        self._error: Any = None
        self._is_subscribed = self._is_paused = False
        #: Offset after the last stored message, by topic and partition.
        self._stored: dict[tuple[str, int], int] = {}
        #: Partitions that left this process after the last messages were received.
        self._left: set[tuple[str, int]] = set()

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return the next messages of the assigned partitions."""
        if not self._is_subscribed:
            self._consumer.subscribe(list(self.topics), on_revoke=self._revoked, on_lost=self._lost)
            self._is_subscribed = True
        if self._is_paused:
            self._consumer.resume(self._consumer.assignment())
            self._is_paused = False
        self._commit_own()
        # `consume` would wait for a full batch. So wait for the first message only.
        first = self._consumer.poll(timeout)
        self._left.clear()
        if first is None:
            if self._error is not None:
                raise self._unavailable(self._error)
            return []
        self._error = None
        more = self._consumer.consume(max_messages - 1, 0) if max_messages > 1 else []
        return [_received(one) for one in (first, *more) if self._is_message(one)]

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Commit the offsets after these messages, unless their partition has left meanwhile.

        Its next owner, which may be this process again, begins at the committed offset. During a
        rebalance the broker refuses that. The next call commits them, or another process gets the
        messages again.
        """
        ends = _ends(messages)
        self._stored.update({place: ends[place] for place in ends.keys() - self._left})
        self._commit_own()

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Return to the first of these messages in each partition."""
        for (topic, partition), offset in _starts(messages).items():
            self._consumer.seek(self._client.TopicPartition(topic, partition, offset))

    def hold(self, messages: Sequence[ReceivedMessage]) -> None:
        """Stay a member of the group. The position stays after the messages."""
        self.keep_alive()

    def keep_alive(self) -> None:
        """Stay a member of the group: serve rebalances, and fetch nothing."""
        if not self._is_subscribed:
            return
        self._consumer.pause(self._consumer.assignment())
        self._is_paused = True
        message = self._consumer.poll(0)
        if message is not None and self._is_message(message):  # of a newly assigned partition
            self.release([_received(message)])

    def lag(self) -> int | None:
        """Return the number of messages after the group's committed offsets, in all partitions."""
        partitions = list(self._partitions(_REQUEST))
        total = 0
        for one in self._consumer.committed(partitions, timeout=_REQUEST):
            low, high = self._consumer.get_watermark_offsets(one, timeout=_REQUEST)
            begin = max(one.offset, low) if one.offset >= 0 else low
            total += max(0, high - begin)
        return total

    def check(self, *, timeout: float) -> Sequence[str]:
        """Ask a broker for the topics."""
        try:
            found = self._consumer.list_topics(timeout=timeout).topics
        except self._client.KafkaException as error:
            return [
                f"The source {self.name} reaches no broker: {_text(error)}. Check "
                "bootstrap.servers and the credentials in its OPTIONS."
            ]
        return [
            f"The topic {topic} of the source {self.name} does not exist, or may not be read. "
            "Create it, or correct TOPICS or the permissions."
            for topic in self.topics
            if not topic.startswith("^") and (topic not in found or found[topic].error is not None)
        ]

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _partitions(self, timeout: float) -> Iterable[Any]:
        found = self._consumer.list_topics(timeout=timeout).topics
        for topic in filter(self._receives, found):
            for partition in found[topic].partitions:
                yield self._client.TopicPartition(topic, partition)

    def _receives(self, topic: str) -> bool:
        """Return whether `TOPICS` has the topic, or a pattern that matches it."""
        return topic in self.topics or any(
            pattern.startswith("^") and re.match(pattern, topic) for pattern in self.topics
        )

    def _is_message(self, message: Any) -> bool:
        """Return whether this is a message; raise if it is an error that does not pass."""
        error = message.error()
        if error is None:
            return True
        if error.code() == self._client.KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise SourceUnavailable(
                f"A topic of {', '.join(self.topics)} does not exist. Create it, or correct TOPICS "
                f"of the source {self.name}."
            )
        if error.fatal() or not error.retriable():
            raise self._unavailable(error)
        logger.info("%s: %s. The client tries again.", self.name, error.name())
        return False

    def _note_error(self, error: Any) -> None:
        """Keep an error that ends all connections. The client reports it within `poll`."""
        if error.fatal() or error.code() == self._client.KafkaError._ALL_BROKERS_DOWN:
            self._error = error

    def _unavailable(self, error: Any) -> SourceUnavailable:
        return SourceUnavailable(
            f"Kafka does not serve the source {self.name}: {error.name()}. Check that it runs, "
            "bootstrap.servers, and the credentials and permissions."
        )

    def _commit_own(self) -> None:
        """Commit the offsets of assigned partitions.

        The other partitions belong to another process now, whose committed offset may be higher.
        """
        if self._stored:
            own = {(one.topic, one.partition) for one in self._consumer.assignment()}
            self._stored = {place: end for place, end in self._stored.items() if place in own}
            self._commit(self._stored)

    def _commit(self, ends: Mapping[tuple[str, int], int]) -> None:
        offsets = [
            self._client.TopicPartition(topic, partition, offset)
            for (topic, partition), offset in ends.items()
        ]
        if not offsets:
            return
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._client.KafkaException as error:
            logger.info("%s: offsets are not committed yet: %s", self.name, _text(error))
            return
        for one in committed:
            if one.error is None:
                self._stored.pop((one.topic, one.partition), None)

    def _revoked(self, _consumer: Any, partitions: Sequence[Any]) -> None:
        """Commit the stored messages of partitions that another process gets."""
        gone = {(one.topic, one.partition) for one in partitions}
        self._left |= gone
        self._commit({place: end for place, end in self._stored.items() if place in gone})
        for place in gone:
            self._stored.pop(place, None)

    def _lost(self, _consumer: Any, partitions: Sequence[Any]) -> None:
        """Forget partitions that another process has already."""
        for one in partitions:
            self._left.add((one.topic, one.partition))
            self._stored.pop((one.topic, one.partition), None)


def _consumer_options(name: str, group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    for key in (*_OWN, "group.id"):
        if key in options:
            raise ImproperlyConfigured(
                f'OUTBOX["SOURCES"]["{name}"]["OPTIONS"] has {key}, which the source sets itself. '
                "Remove it" + (", and set GROUP." if key == "group.id" else ".")
            )
    defaults = {
        "auto.offset.reset": "earliest",
        "client.id": f"outbox-{name}",
        "logger": logger,
        # At the next level librdkafka logs each failed attempt to connect, with no limit.
        "log_level": 2,
    }
    return {**defaults, **options, **_OWN, "group.id": group}


def _library() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise ImproperlyConfigured(
            'The Kafka source needs confluent-kafka (extra "kafka").'
        ) from error
    return confluent_kafka


def _received(message: Any) -> ReceivedMessage:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    return ReceivedMessage(
        position=f"{topic}/{partition}/{offset}",
        topic=topic,
        key=_decoded(message.key()),
        headers={name.lower(): _decoded(value) for name, value in message.headers() or ()},
        body=message.value() or b"",
        handle=(topic, partition, offset),
    )


def _decoded(value: bytes | str | None) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value or ""


def _ends(messages: Iterable[ReceivedMessage]) -> dict[tuple[str, int], int]:
    ends: dict[tuple[str, int], int] = {}
    for topic, partition, offset in (one.handle for one in messages):
        ends[topic, partition] = max(offset + 1, ends.get((topic, partition), 0))
    return ends


def _starts(messages: Iterable[ReceivedMessage]) -> dict[tuple[str, int], int]:
    starts: dict[tuple[str, int], int] = {}
    for topic, partition, offset in (one.handle for one in messages):
        starts[topic, partition] = min(offset, starts.get((topic, partition), offset))
    return starts


def _text(error: Any) -> str:
    found = error.args[0]
    return str(found.name()) if hasattr(found, "name") else type(error).__name__
