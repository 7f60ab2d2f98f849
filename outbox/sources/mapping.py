"""The default mapper: the content of a message that is a CloudEvent in JSON."""

from __future__ import annotations

from collections.abc import Mapping
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
        raise NotReadable(str(error).removesuffix(".")) from error
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
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
