"""The interface of a sink: it publishes events to one external system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from outbox.events import EventRecord

#: Encoding of CloudEvents: attributes as headers and the data as body, or all in one JSON body.
Encoding = Literal["binary", "structured"]


class SinkUnavailable(Exception):
    """The external system cannot be reached, or accepts nothing at present.

    The delivery is retried. The sink's breaker counts it: after some in a row, only probes are
    sent. A sink raises `outbox.PermanentFailure` instead if no retry can help, for example for a
    message that is too large.
    """


@dataclass(frozen=True, kw_only=True)
class SinkMessage:
    """One event as it is sent.

    Attributes:
        id: deduplication id. The event's id; a requested replay appends its number: "<id>.1".
        event: the event.
        topic: destination, from the sink's `TOPIC`: a topic, subject, routing key, stream, ARN,
            queue URL or URL, depending on the system.
        key: partition key, the event's key.
        headers: attributes of the message, by name in the system's own form ("ce_id", "ce-id").
        body: the message's body. Contains personal data only if the sink allows it.
    """

    id: str
    event: EventRecord
    topic: str
    key: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of key, headers and body."""
        text = "".join((self.key, *self.headers, *self.headers.values()))
        return (len(text) if text.isascii() else len(text.encode())) + len(self.body)


class Sink(ABC):
    """Publishes messages to one external system. One instance per process and sink.

    A subclass in your project is named by `BACKEND`. Its module alone imports the client library.
    `outbox.testing.SinkContract` has the tests that every sink passes.

    Args:
        name: the sink's name in `OUTBOX["SINKS"]`.
        options: its `OPTIONS`. They may contain credentials, so no error may quote them.

    Attributes:
        encoding: the encoding that the system's limits allow, unless `ENCODING` sets the other one.
        header_prefix: prefix of CloudEvents attributes among the headers.
        percent_encoded: whether their values are percent-encoded, as HTTP and NATS require. The
            others are text, which the sink sends as UTF-8.
        structured_attributes: attributes that are headers also in structured encoding, for filters.
        max_bytes: largest message that the system accepts; None: unknown. It is checked before the
            first attempt, and a larger one is dead at once.
        max_batch: most messages of one call of `publish`.
        ordered: the sink's `ORDERED`, which is set after its creation.
    """

    encoding: ClassVar[Encoding] = "binary"
    header_prefix: ClassVar[str] = "ce-"
    percent_encoded: ClassVar[bool] = False
    structured_attributes: ClassVar[Sequence[str]] = ()
    max_bytes: int | None = None
    max_batch: int = 100
    ordered: bool = True

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.options = options

    @classmethod
    def key_in_topic(cls, key: str) -> str:
        """Return a key in the characters that a destination allows, for `{key}` in `TOPIC`."""
        return key

    @abstractmethod
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        """Send messages, and wait until the system has acknowledged or refused each of them.

        Called by one thread at a time. Messages of one key never share a call if the sink is
        ordered.

        Args:
            messages: at most `max_batch`.
            timeout: seconds after which it must have returned. What is unknown then is an error.

        Returns:
            One entry per message, in the same order: None if the system has stored the message,
            else the reason why not. A message whose result is unknown has an error: it is sent
            again with the same id.

        Raises:
            Exception: none of the messages was acknowledged.
        """

    @abstractmethod
    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        """Ask the system whether these destinations exist and may be published to.

        Args:
            topics: destinations. A part that depends on the event's key is "*".
            timeout: seconds.

        Returns:
            One sentence per problem: object, cause and next step. Empty if all is well.
        """

    def close(self) -> None:  # noqa: B027  not every client has something to close
        """Close connections. The sink is not used afterwards."""
