"""The interface of a source: it receives messages of one external system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from outbox.storable import storable_text

#: Width of the column of an event's tenant.
_LONGEST_TENANT = 100


class SourceUnavailable(Exception):
    """The external system cannot be reached, or refuses this consumer. Receiving starts again."""


class NotReadable(ValueError):
    """A message cannot be read. The text names the cause, and quotes no value of the message.

    Dead letters with the same text are one group. So a position in the message is not in the text.

    Args:
        reason: the cause.
        where: position of the problem in the message, "line 1, column 7", or "".
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        super().__init__(reason)
        self.where = where

    @property
    def with_position(self) -> str:
        """The cause and the position."""
        return f"{self} ({self.where})" if self.where else str(self)


@dataclass(frozen=True, kw_only=True)
class ReceivedMessage:
    """One message as it was received.

    Attributes:
        position: identity of the message in its system: "invoices/0/42" for partition 0 of a Kafka
            topic, the message id of a queue. Redelivery does not change it.
        topic: topic, subject or queue that it came from.
        key: partition key, or "".
        headers: attributes of the message by name, in lower case.
        body: the message's body.
        handle: reference for the acknowledgement. Only the source reads it.
    """

    position: str
    topic: str
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(repr=False)
    handle: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class ExternalMessage:
    """The content of a message, as a mapper returns it.

    Attributes:
        id: identity of the fact. Two messages of a source with one id are duplicates.
        type: kind of the fact. An `ExternalEvent` declares it.
        data: its fields.
        correlation_id: shared by all events that follow from one request. None: that of the event
            that caused it, if this database has that event, or a new one.
        causation_id: the event that caused it, if this project knows that event.
        traceparent: W3C trace context, or "".
        tracestate: W3C trace state, or "".
        event_id: id of the fact in the system that sent it, by which it is reported as settled.
            Default: `id`.
        replay: number of the replay that the other system has requested. A duplicate with a new
            number is reported as settled once more.
        tenant: the tenant of the event, with `OUTBOX["TENANT"]`. None: the one that `CAPTURE`
            returns in the process that receives.

    Raises:
        NotReadable: an attribute has another type, or the tenant cannot be stored.
    """

    id: str
    type: str
    data: Mapping[str, Any] = field(repr=False)
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str = ""
    tracestate: str = ""
    event_id: str = ""
    replay: int = 0
    tenant: str | None = None

    def __post_init__(self) -> None:
        """Refuse other types, which a mapper in the project may pass."""
        for names, wanted in _TYPES.items():
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, wanted):
                    raise NotReadable(
                        f"{name} of its ExternalMessage is of the type {type(value).__name__}"
                    )
        tenant = self.tenant or ""
        if len(tenant) > _LONGEST_TENANT or storable_text(tenant) != tenant:
            raise NotReadable(
                f"tenant of its ExternalMessage has {len(tenant)} characters, or one that cannot "
                f"be stored. It may have {_LONGEST_TENANT}"
            )


#: Types of the attributes of an `ExternalMessage`.
_TYPES: dict[tuple[str, ...], tuple[type, ...]] = {
    ("id", "type", "traceparent", "tracestate", "event_id"): (str,),
    ("data",): (Mapping,),
    ("replay",): (int,),
    ("correlation_id", "causation_id"): (UUID, type(None)),
    ("tenant",): (str, type(None)),
}


class BaseSource(ABC):
    """The part that all sources share, also those that are called by the other system.

    Args:
        name: the source's name in `OUTBOX["SOURCES"]`.
        topics: its `TOPICS`.
        group: its `GROUP`: processes with the same one share the messages.
        options: its `OPTIONS`. They may contain credentials, so no error may quote them.

    Attributes:
        header_prefix: prefix of CloudEvents attributes among the headers.
        percent_encoded: whether header values are percent-encoded, as in HTTP and NATS.
        headers_are_authentic: whether headers come from the sender, as position and body do.
        needs_topics: whether `TOPICS` must not be empty.
        needs_group: whether `GROUP` must not be empty.
    """

    header_prefix: ClassVar[str] = "ce-"
    percent_encoded: ClassVar[bool] = False
    headers_are_authentic: ClassVar[bool] = True
    needs_topics: ClassVar[bool] = True
    needs_group: ClassVar[bool] = False

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.topics = topics
        self.group = group
        self.options = options

    @classmethod  # noqa: B027  most backends validate in their constructor
    def validate_options(cls, name: str, options: Mapping[str, Any]) -> None:
        """Raise `ImproperlyConfigured` for an invalid option of the source `name`. Quote no value.

        It is called whenever the settings are read, also where the client library is missing. By
        default every option is valid, and the constructor refuses invalid ones.
        """

    @abstractmethod
    def check(self, *, timeout: float) -> Sequence[str]:
        """Ask the system whether the topics exist and may be read.

        Returns:
            One sentence per problem: object, cause and next step. Empty if all is well.
        """

    def close(self) -> None:  # noqa: B027  not every client has something to close
        """Leave the group and close connections. The source is not used afterwards."""


class Source(BaseSource):
    """Receives messages of one external system. One instance for a thread that drives it.

    A subclass in your project is named by `BACKEND`. Its module alone imports the client library.
    A message is received, stored and committed, then acknowledged. While it cannot be stored, it is
    held: systems count how often a message returns, and delete it in the end. A message that is not
    acknowledged must be delivered again, to this or another process.

    Attributes:
        max_batch: most messages of one call of `receive`.
    """

    max_batch: ClassVar[int] = 500

    @abstractmethod
    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        """Return the next messages. Wait at most `timeout` seconds for the first one.

        Messages of one key are in their order in the system, where it has one.

        Raises:
            SourceUnavailable: the system cannot be reached, or refuses this consumer.
        """

    @abstractmethod
    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        """Acknowledge all messages of the last call of `receive`. They are committed.

        If it raises, the messages are delivered again, and dropped as duplicates.
        """

    @abstractmethod
    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        """Return the messages of the last call of `receive`, which are not stored.

        Called if the outbox's database cannot be reached, and at the end of the process.
        """

    def keep_alive(self) -> None:
        """Keep the session while nothing is received. Called every second during a pause."""

    def hold(self, messages: Sequence[ReceivedMessage]) -> None:
        """Keep the session and the messages of the last call of `receive`, and receive nothing.

        Called every second, and before each further attempt, while the messages cannot be stored.
        Then `acknowledge` or `release` follows. By default nothing happens. Override it if the
        system takes messages away from a client that is silent for some time.

        Raises:
            SourceUnavailable: the session is lost. The messages must be delivered again.
        """

    @abstractmethod
    def lag(self) -> int | None:
        """Return the number of messages that wait in the system for all processes; None: unknown.

        It may be called before the first `receive`.
        """
