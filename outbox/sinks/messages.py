"""The message of an event, as a sink sends it: CloudEvents, Debezium's conventions, or a mapper.

A mapper is a function of your project, named by the sink's `FORMAT`::

    def as_line(event: EventRecord, *, topic: str) -> MessageParts:
        return MessageParts(body=f"{event.name} {event.key}".encode())

It is called for each attempt, and has to return the same parts for the same event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from django.utils.module_loading import import_string

from outbox import tenants
from outbox.conf import Conf, conf
from outbox.contracts import cloudevents
from outbox.events import EventRecord
from outbox.privacy.omission import UnknownSchema, without_sensitive
from outbox.receipt import PermanentFailure

from .base import Encoding, Sink, SinkMessage
from .configuration import CLOUDEVENTS, DEBEZIUM, SinkConfig
from .topics import filled


@dataclass(frozen=True, kw_only=True)
class MessageParts:
    """The parts of a message that a mapper decides.

    Attributes:
        body: the message's body.
        headers: attributes of the message, by name.
        key: partition key. None: the event's key.
        topic: destination. None: the one that `TOPIC` names.
    """

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    topic: str | None = None


class Mapper(Protocol):
    """Maps an event to a message. Raise `PermanentFailure` for an event that has none."""

    def __call__(self, event: EventRecord, *, topic: str) -> MessageParts:
        """Return the parts of the event's message.

        Args:
            event: the event. Without its sensitive fields, unless `SENSITIVE` is set.
            topic: the destination that `TOPIC` names.
        """


def message_of(
    config: SinkConfig,
    event: EventRecord,
    *,
    sink: Sink,
    replays: int = 0,
    settings: Conf | None = None,
) -> SinkMessage:
    """Return the message that a sink sends for an event.

    Args:
        config: the sink's configuration.
        sink: its backend.
        replays: number of requested replays. Each one changes the deduplication id.
        settings: `OUTBOX`, if the caller has read it for several events.

    Raises:
        PermanentFailure: the message is too large, the event's sensitive fields are unknown, or the
            event cannot be written in the format.
        UndeclaredField: a newer release can publish the event.
    """
    sent, _omitted = publishable(config, event)
    parts = _parts(
        config, sent, sink=sink, settings=settings or conf(lenient=True), replays=replays
    )
    message = SinkMessage(
        id=f"{event.id}.{replays}" if replays else str(event.id),
        event=sent,
        topic=parts.topic if parts.topic is not None else topic_of(config, event, sink=sink),
        key=parts.key if parts.key is not None else event.key,
        headers=parts.headers,
        body=parts.body,
    )
    _refuse_large(config, message, sink.max_bytes)
    return message


def publishable(config: SinkConfig, event: EventRecord) -> tuple[EventRecord, tuple[str, ...]]:
    """Return the event as a sink may publish it, and the names of the omitted sensitive fields.

    Raises:
        PermanentFailure: its sensitive fields are unknown.
        UndeclaredField: a field is not declared, so it may be sensitive.
    """
    if config.sensitive:
        return event, ()
    try:
        found = without_sensitive(event)
    except UnknownSchema as error:
        raise PermanentFailure(
            f'The sink "{config.name}" omits sensitive fields. {error} Declare the event, or set '
            "SENSITIVE of the sink to True."
        ) from error
    return (replace(event, payload=found.payload) if found.fields else event), found.fields


def topic_of(config: SinkConfig, event: EventRecord, *, sink: Sink | type[Sink]) -> str:
    """Return the destination that `TOPIC` names for an event."""
    key = sink.key_in_topic(event.key)
    return filled(config.topic, name=event.name, version=event.version, key=key)


def encoding_of(config: SinkConfig, sink: Sink | type[Sink]) -> Encoding:
    """Return the encoding of its CloudEvents."""
    return config.encoding or sink.encoding


def as_debezium(event: EventRecord, *, topic: str) -> MessageParts:
    """Map an event as Debezium's outbox event router does: the payload, with the id as header.

    https://debezium.io/documentation/reference/stable/transformations/outbox-event-router.html
    The headers `eventType` and `eventVersion` are the ones that the router adds if it is configured
    as in docs/how-to/let-debezium-read-the-table.md.
    """
    headers = {
        "id": str(event.id),
        "eventType": event.name,
        "eventVersion": str(event.version),
    }
    return MessageParts(body=cloudevents.json_bytes(event.payload), headers=headers)


def _parts(
    config: SinkConfig, event: EventRecord, *, sink: Sink, settings: Conf, replays: int
) -> MessageParts:
    try:
        if config.format == CLOUDEVENTS:
            return _as_cloudevent(config, event, sink=sink, settings=settings, replays=replays)
        mapper: Mapper = as_debezium if config.format == DEBEZIUM else import_string(config.format)
        with tenants.restored(event.tenant):
            parts = mapper(event, topic=topic_of(config, event, sink=sink))
    except cloudevents.InvalidCloudEvent as error:
        raise PermanentFailure(str(error)) from error
    _refuse_other_parts(config, parts)
    return parts


def _refuse_other_parts(config: SinkConfig, parts: Any) -> None:
    is_made = isinstance(parts, MessageParts) and isinstance(parts.headers, Mapping)
    if not is_made or not isinstance(parts.body, bytes):
        raise PermanentFailure(
            f'The mapper {config.format} of the sink "{config.name}" returned '
            f"{type(parts).__name__}. Return MessageParts of outbox.sinks.messages, whose body is "
            "bytes and whose headers are a mapping."
        )
    if (wrong := _no_text(parts)) is not None:
        raise PermanentFailure(
            f'The mapper {config.format} of the sink "{config.name}" returned MessageParts in '
            f"which {wrong} is no text. Return a str."
        )


def _no_text(parts: Any) -> str | None:
    """Return the name of a part that has to be a text and is none."""
    for name, value in parts.headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return f"the header {name}"
    others = {"the key": parts.key, "the topic": parts.topic}
    found = (name for name, one in others.items() if not isinstance(one, str | None))
    return next(found, None)


def _as_cloudevent(
    config: SinkConfig, event: EventRecord, *, sink: Sink, settings: Conf, replays: int
) -> MessageParts:
    attributes = cloudevents.attributes(
        event,
        source=settings.SOURCE,
        schema_url=_schema_url(settings, event),
        replays=replays,
    )
    prefix, encoded = sink.header_prefix, sink.percent_encoded
    if encoding_of(config, sink) == "binary":
        headers, body = cloudevents.binary(
            attributes, event.payload, prefix=prefix, percent_encoded=encoded
        )
        return MessageParts(body=body, headers=headers)
    shown = {name: attributes[name] for name in sink.structured_attributes if name in attributes}
    headers = {
        cloudevents.CONTENT_TYPE: cloudevents.STRUCTURED,
        **cloudevents.headers(shown, prefix, encoded),
    }
    return MessageParts(body=cloudevents.structured(attributes, event.payload), headers=headers)


def _schema_url(settings: Conf, event: EventRecord) -> str:
    return filled(settings.SCHEMA_URL, name=event.name, version=event.version, key="")


def _refuse_large(config: SinkConfig, message: SinkMessage, limit: int | None) -> None:
    if limit is not None and message.size > limit:
        raise PermanentFailure(
            f"The message of event {message.event.id} has {message.size:,} bytes, and the sink "
            f'"{config.name}" accepts {limit:,}. Store large data elsewhere and emit its address, '
            "or publish less with a mapper."
        )
