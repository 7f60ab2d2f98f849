"""The default mapper: the content of a message that is a CloudEvent in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from outbox.contracts import cloudevents

from .base import ExternalMessage, NotReadable, ReceivedMessage


def from_cloudevent(
    message: ReceivedMessage, *, prefix: str, percent_encoded: bool
) -> ExternalMessage:
    """Return the content of a CloudEvent, in binary or structured encoding.

    Raises:
        NotReadable: it is no CloudEvent 1.0, or its data is no JSON object.
    """
    try:
        event = cloudevents.parse(
            message.headers, message.body, prefix=prefix, percent_encoded=percent_encoded
        )
    except cloudevents.InvalidCloudEvent as error:
        raise NotReadable(str(error).removesuffix("."), where=error.where) from error
    return _content(event)


def from_cloudevent_with_unsigned_headers(
    message: ReceivedMessage, *, prefix: str, percent_encoded: bool
) -> ExternalMessage:
    """Return the content of a CloudEvent whose position and body are signed, and no header is.

    Headers decide neither the encoding nor the id, so that other headers do not make a duplicate a
    new message. A body that is a CloudEvent has its id. Any other has the id of a message that
    cannot be read.

    Raises:
        NotReadable: it is no CloudEvent 1.0, or its data is no JSON object.
    """
    try:
        return _content(cloudevents.parse({}, message.body))
    except cloudevents.InvalidCloudEvent:
        found = from_cloudevent(message, prefix=prefix, percent_encoded=percent_encoded)
        return replace(found, id=id_without_content(message))


def id_without_content(message: ReceivedMessage) -> str:
    """Return the id of a message without using its content."""
    return f"message {message.position}"


def _content(event: cloudevents.CloudEvent) -> ExternalMessage:
    if not isinstance(event.data, Mapping):
        raise NotReadable("The data of the CloudEvent is no JSON object")
    extensions = event.extensions
    return ExternalMessage(
        # CloudEvents promises that `source` and `id` together are unique.
        id=f"{event.source} {event.id}",
        type=event.type,
        data=event.data,
        correlation_id=_uuid(extensions.get("correlationid", "")),
        causation_id=_uuid(extensions.get("causationid", "")),
        traceparent=extensions.get("traceparent", ""),
        tracestate=extensions.get("tracestate", ""),
        event_id=event.id,
        replay=_number(extensions.get("replay", "")),
    )


def _number(text: str) -> int:
    """Return a number of at most nine digits, which every database can store; else 0."""
    return int(text) if len(text) < 10 and text.isascii() and text.isdigit() else 0


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
