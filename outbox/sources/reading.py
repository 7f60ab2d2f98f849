"""Read a received message: its content, and the event that is stored for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from outbox.context import Cause
from outbox.events import DomainEvent
from outbox.ids import uuid7
from outbox.settlements.events import SETTLED_TYPE
from outbox.settlements.recording import InvalidReport, Report
from outbox.storable import storable_text

from .base import ExternalMessage, NotReadable, ReceivedMessage
from .configuration import SourceConfig
from .events import ExternalEvent, find_external
from .mapping import id_without_content
from .unreadable import (
    StoredMessage,
    UnknownMessageReceived,
    UnreadableMessageReceived,
    as_received,
)

logger = logging.getLogger("outbox.sources")

Outcome = Literal["stored", "unreadable", "unknown", "dropped", "settlement"]

#: Width of the columns of an event's key and of an external id.
_LONGEST_ID = 100


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The event that is stored for a message.

    Attributes:
        message: the message.
        external_id: its identity within the source.
        event: the event. None: only the message's id is stored.
        outcome: whether the event is the message's own, or holds the message as it was received. A
            dropped one is stored only to be reported as settled.
        content: its content, if it could be read.
        report: the report of a settlement. None: it is none, or of no event of this project.
        reported_id: id by which it is reported as settled. "": it is not reported.
        tenant: the tenant that its mapper has named, or None.
        event_id: id of the event.
    """

    message: ReceivedMessage
    external_id: str
    event: DomainEvent | None
    outcome: Outcome
    content: ExternalMessage | None = None
    report: Report | None = None
    reported_id: str = ""
    tenant: str | None = None
    event_id: UUID = field(default_factory=uuid7)

    @property
    def replay(self) -> int:
        """The number of the replay that the other system has requested, or 0."""
        return self.content.replay if self.content else 0

    def cause(self, source: str, known: Mapping[UUID | None, UUID]) -> Cause:
        """Return the cause of the event.

        Args:
            source: name of the source.
            known: correlation ids of events of this project, by their ids.
        """
        content = self.content
        causation_id = content.causation_id if content else None
        given = content.correlation_id if content else None
        return Cause(
            correlation_id=given or known.get(causation_id) or uuid7(),
            causation_id=causation_id,
            actor=f"source:{source}",
        )


def read(message: ReceivedMessage, source: SourceConfig) -> Reading | None:
    """Read a message. None: the source is configured to drop it. It never raises."""
    content = None
    try:
        content = content_of(message, source)
        return None if content is None else _known_or_unknown(message, source, content)
    except Exception as error:
        logger.warning(
            "%s: the message %s cannot be read, and becomes a dead letter: %s.",
            source.name,
            message.position,
            _described(error),
        )
        return unreadable(message, source, content)


def _described(error: Exception) -> str:
    if isinstance(error, NotReadable):
        return error.with_position
    return f"{type(error).__name__} was raised"


def content_of(message: ReceivedMessage, source: SourceConfig) -> ExternalMessage | None:
    """Return a message's content, or None if its mapper drops it.

    Raises:
        NotReadable: it is too large, or no CloudEvent, or its mapper failed or returned neither an
            `ExternalMessage` nor None.
    """
    if len(message.body) > source.max_bytes:
        raise NotReadable(
            f"Its body has {len(message.body):,} bytes, and MAX_BYTES of the source "
            f"{source.name} is {source.max_bytes:,}"
        )
    try:
        content: object = source.read(message)
    except NotReadable:
        raise
    except Exception as error:  # a mapper is code of the project
        raise NotReadable(f"Its mapper {source.mapper} raised {type(error).__name__}") from error
    if content is None or isinstance(content, ExternalMessage):
        return content
    raise NotReadable(
        f"Its mapper {source.mapper} returned a value of the type {type(content).__name__}, and no "
        "ExternalMessage"
    )


def report_of(content: ExternalMessage) -> Report | None:
    """Return the report of a settlement. None: it is of no event of this project.

    Raises:
        NotReadable: a field is missing.
    """
    try:
        return Report.of(content.data)
    except InvalidReport as error:
        raise NotReadable(str(error)) from None


def fact_of(content: ExternalMessage, source: SourceConfig) -> ExternalEvent | None:
    """Return the external event of a message, or None if no class declares its type.

    Raises:
        NotReadable: the fields do not fit the class, or a validator of it failed.
    """
    known = find_external(source.name, content.type)
    if known is None:
        return None
    try:
        # As JSON, a value also fits a strict type.
        return known.model_validate_json(to_json(content.data), by_alias=True, by_name=True)
    except ValidationError as error:
        raise _unfit(known, error) from None
    except PydanticSerializationError as error:
        raise NotReadable("Its data has a value that JSON does not have") from error
    except Exception as error:  # a validator is code of the project
        name = type(error).__name__
        raise NotReadable(f"A validator of {known.event_name} raised {name}") from error


def unreadable(
    message: ReceivedMessage, source: SourceConfig, content: ExternalMessage | None = None
) -> Reading:
    """Return the event that holds an unreadable message.

    Of its content, it uses the id and the tenant only.
    """
    own_id = external_id(content.id if content else id_without_content(message))
    event = _whole(UnreadableMessageReceived, message, source, own_id)
    return Reading(
        message=message,
        external_id=own_id,
        event=event,
        outcome="unreadable",
        reported_id=reported_id(content) if content else "",
        tenant=content.tenant if content else None,
    )


def external_id(given: str) -> str:
    """Return an id as it is stored: a hash of it if it is too long."""
    text = storable_text(given)
    if len(text) <= _LONGEST_ID:
        return text
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def reported_id(content: ExternalMessage) -> str:
    """Return the id by which a message's event is reported as settled."""
    return storable_text(content.event_id or content.id)


def _known_or_unknown(
    message: ReceivedMessage, source: SourceConfig, content: ExternalMessage
) -> Reading | None:
    fact = fact_of(content, source)
    if content.type == SETTLED_TYPE:
        return Reading(
            message=message,
            external_id=external_id(content.id),
            event=fact,
            outcome="settlement",
            content=content,
            report=report_of(content),
            tenant=content.tenant,
        )
    own_id = external_id(content.id)
    event, outcome = _event_of(message, source, content, fact=fact, own_id=own_id)
    if outcome == "dropped" and not source.settles_as:
        return None
    return Reading(
        message=message,
        external_id=own_id,
        event=event,
        outcome=outcome,
        content=content,
        reported_id=reported_id(content),
        tenant=content.tenant,
    )


def _event_of(
    message: ReceivedMessage,
    source: SourceConfig,
    content: ExternalMessage,
    *,
    fact: ExternalEvent | None,
    own_id: str,
) -> tuple[DomainEvent | None, Outcome]:
    if fact is not None:
        return fact, "stored"
    if source.unknown == "drop":
        return None, "dropped"
    kept = _whole(UnknownMessageReceived, message, source, own_id, unknown_type=content.type)
    return kept, "unknown"


def _whole(
    event: type[StoredMessage],
    message: ReceivedMessage,
    source: SourceConfig,
    own_id: str,
    *,
    unknown_type: str = "",
) -> StoredMessage:
    """Return the event that holds the message as it was received."""
    return as_received(
        event,
        message,
        source=source.name,
        external_id=own_id,
        max_bytes=source.max_bytes,
        unknown_type=unknown_type,
    )


def _unfit(event: type[ExternalEvent], error: ValidationError) -> NotReadable:
    """Return the reason, with "*" for the position in a list. str(error) quotes the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    places = [one["loc"] for one in found]
    fields = [".".join("*" if isinstance(part, int) else part for part in loc) for loc in places]
    problems = dict.fromkeys(
        f"{field}: {one['msg']}" for field, one in zip(fields, found, strict=True)
    )
    exact = [".".join(map(str, loc)) for loc in places]
    return NotReadable(
        f"It does not fit {event.event_name}: {'; '.join(problems)}",
        where=", ".join(exact) if exact != fields else "",
    )
