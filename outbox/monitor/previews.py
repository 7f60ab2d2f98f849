"""The configured sinks: their state, the exact message of an event, and the check of the system."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _

from outbox import clock, databases, events
from outbox.contracts.json_schemas import NO_SCHEMA, written_schema
from outbox.contracts.schema_parts import alternatives, item
from outbox.contracts.upcasting import current_payload, is_newer
from outbox.events import DomainEvent, EventRecord
from outbox.formatting import listing
from outbox.ids import uuid7
from outbox.models import Event
from outbox.privacy.omission import UndeclaredField
from outbox.privacy.sensitive import Schema, blank
from outbox.receipt import PermanentFailure
from outbox.sinks.base import Encoding, Sink, SinkMessage, SinkUnavailable
from outbox.sinks.configuration import CLOUDEVENTS, SinkConfig, configured, sink_of
from outbox.sinks.messages import encoding_of, message_of, publishable
from outbox.sinks.topics import filled
from outbox.worker.calls import record_of

from .status import HandlerStatus, status

#: Deepest level of an example's objects, since models may contain themselves.
_DEEPEST = 8


class NoEvent(LookupError):
    """There is no event to preview, or the mapper fails for it. The text is for people."""


@dataclass(frozen=True, kw_only=True)
class SinkState:
    """A configured sink and its handler.

    Attributes:
        status: its owed deliveries, and why it is stopped. None: it is not subscribed yet.
    """

    config: SinkConfig
    status: HandlerStatus | None

    @property
    def kind(self) -> str:
        """Its state, for programs: "running", "unsubscribed", or the kind of its stop."""
        if self.status is None:
            return "unsubscribed"
        return self.status.stop.kind if self.status.stop else "running"

    @property
    def label(self) -> str:
        """Its state in a few words."""
        if self.status is None:
            return _("not subscribed: run migrate")
        return self.status.stop.label if self.status.stop else _("running")


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The message that a sink would send for an event.

    Attributes:
        config: the sink.
        message: exactly the message.
        is_example: the event is an example that was built from its schema.
        omitted: the sensitive fields that the message does not have.
        encoding: "binary" or "structured"; None: the format is not CloudEvents.
        limit: most bytes of a message, or None.
    """

    config: SinkConfig
    message: SinkMessage
    is_example: bool
    omitted: tuple[str, ...]
    encoding: Encoding | None
    limit: int | None

    @property
    def body(self) -> str:
        """The body as text; bytes that are no UTF-8 are shown as escapes."""
        return printable(self.message.body.decode("utf-8", "backslashreplace"))


def sink_states() -> list[SinkState]:
    """Return all configured sinks by name."""
    handlers = {one.handler: one for one in status().handlers}
    return [
        SinkState(config=config, status=handlers.get(config.handler))
        for _name, config in sorted(configured().items())
    ]


def preview(config: SinkConfig, event_id: UUID | None = None) -> Preview:
    """Return the message of an event, of the newest stored event, or else of an example.

    Raises:
        NoEvent: there is no such event, the sink does not publish it, no event is declared, or the
            mapper raises an error.
        PermanentFailure: the event has no message, for example since it is too large.
        UndeclaredField: only a newer release can publish the event.
        ImproperlyConfigured: the backend cannot be created.
    """
    sink = sink_of(config)
    row = _newest(config) if event_id is None else _stored(config, event_id)
    event = _example_of(config) if row is None else _record(row)
    _event, omitted = publishable(config, event)
    return Preview(
        config=config,
        message=_message(config, event, sink=sink, is_example=row is None),
        is_example=row is None,
        omitted=omitted,
        encoding=encoding_of(config, sink) if config.format == CLOUDEVENTS else None,
        limit=sink.max_bytes,
    )


def _message(
    config: SinkConfig, event: EventRecord, *, sink: Sink, is_example: bool
) -> SinkMessage:
    try:
        return message_of(config, event, sink=sink)
    except (PermanentFailure, UndeclaredField, ImproperlyConfigured):
        raise
    except Exception as error:  # its text may contain personal data
        if not config.is_mapped:
            raise
        if is_example:
            text = _(
                "The mapper %(mapper)s raised %(kind)s for an example of %(event)s. No event that "
                "the sink publishes is stored yet."
            )
        else:
            text = _(
                "The mapper %(mapper)s raised %(kind)s for the event %(id)s. Correct the mapper."
            )
        facts = {"mapper": config.format, "kind": type(error).__name__}
        raise NoEvent(text % {**facts, "event": event.name, "id": event.id}) from error


def check(config: SinkConfig, *, timeout: float) -> list[str]:
    """Ask a sink's system for each destination; return a sentence for each problem.

    Args:
        timeout: seconds.
    """
    topics = sorted(destinations(config))
    if not topics:
        return [
            _(
                'The sink "%(name)s" publishes no event that an installed app '
                "declares. Correct its EVENTS."
            )
            % {"name": config.name}
        ]
    try:
        return list(sink_of(config).check(topics, timeout=timeout))
    except (SinkUnavailable, ImproperlyConfigured) as error:
        return [str(error)]
    except Exception as error:  # its text may contain an option of the client
        kind = type(error).__name__
        return [
            _('The check of the sink "%(name)s" failed (%(kind)s). Is the system running?')
            % {"name": config.name, "kind": kind}
        ]


def destinations(config: SinkConfig) -> set[str]:
    """Return the destinations of all declared events. A part that the key decides is "*"."""
    return {
        filled(config.topic, name=one.event_name, version=one.event_version, key="*")
        for one in _declared(config)
    }


def printable(text: str) -> str:
    """Return a text in which control characters are escapes, so that a terminal obeys none."""
    shown = (one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)
    return "".join(shown)


def _declared(config: SinkConfig) -> Iterable[type[DomainEvent]]:
    for name in sorted(events.registry):
        event = events.find(name)
        if event is not None and config.accepts(name):
            yield event


def _newest(config: SinkConfig) -> Event | None:
    rows = Event.objects.using(databases.alias())
    names = [event.event_name for event in _declared(config)]
    # One query each: the index on name and seq then yields the newest at once.
    found = [rows.filter(name=name).order_by("-seq").first() for name in names]
    return max(filter(None, found), key=lambda row: row.seq, default=None)


def _stored(config: SinkConfig, event_id: UUID) -> Event:
    row = Event.objects.using(databases.alias()).filter(id=event_id).first()
    if row is None:
        raise NoEvent(_("No event has the id %s. It may have been pruned.") % event_id)
    if not config.accepts(row.name):
        facts = {"sink": config.name, "event": row.name, "accepted": listing(config.events)}
        text = _('The sink "%(sink)s" does not publish %(event)s, but %(accepted)s.')
        raise NoEvent(text % facts)
    return row


def _record(row: Event) -> EventRecord:
    if is_newer(row):
        facts = {"event": row.name, "version": row.version, "id": row.id}
        text = _(
            "The event %(id)s is version %(version)d of %(event)s, which only a newer release can "
            "read. Run the command of that release."
        )
        raise NoEvent(text % facts)
    return record_of(row, current_payload(row))


def _example_of(config: SinkConfig) -> EventRecord:
    for event in _declared(config):
        try:
            schema = written_schema(event)
        except NO_SCHEMA:  # a system check reports it
            continue
        payload = _example(schema, schema.get("$defs", {}))
        return EventRecord(
            id=uuid7(),
            name=event.event_name,
            version=event.event_version,
            key=str(payload[event.event_key]),
            payload=payload,
            emitted_at=clock.now(),
            correlation_id=uuid7(),
        )
    text = _('No installed app declares an event that the sink "%s" publishes.')
    raise NoEvent(text % config.name)


def _example(schema: Any, defs: Schema, depth: int = 0) -> Any:
    """Return a value of a schema: all fields of objects, and one item per list."""
    kinds = [one for one in alternatives(schema, defs) if one.get("type") != "null"]
    first: Schema = kinds[0] if kinds else {}
    if depth < _DEEPEST and "properties" in first:
        return {name: _example(part, defs, depth + 1) for name, part in first["properties"].items()}
    if depth < _DEEPEST and first.get("type") == "array":
        return [_example(item(first, 0), defs, depth + 1)]
    if first.get("type") == "string" and not {"enum", "const", "format"} & set(first):
        return "example"[: first.get("maxLength")].ljust(first.get("minLength", 0), ".")
    return blank(first or schema, defs)
