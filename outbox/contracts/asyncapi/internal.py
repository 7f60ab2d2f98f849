"""Internal channels: one for each event, from `emit()` to the handlers of this code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from outbox.contracts.catalogue import CatalogueHandler, catalogue

from .builder import Builder, Reference
from .versions import EventVersion, described

SERVER = "outbox"
#: Marks a channel of this process. `outbox diff` reads it.
INTERNAL = "x-outbox-internal"
READS = "x-outbox-reads"

_SERVER = {
    "host": "database",
    "protocol": "outbox",
    "title": "The outbox",
    "description": "Events in this application's database. It has no address on the network.",
}
_UUID = {"type": "string", "format": "uuid"}
_NULLABLE_UUID = {"anyOf": [_UUID, {"type": "null"}]}
_FACTS_OF_AN_EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "Facts that a handler may take beside the fields.",
    "properties": {
        "event_id": {**_UUID, "description": "The event's id (UUIDv7)."},
        "emitted_at": {
            "type": "string",
            "format": "date-time",
            "description": "Time of the emission, by the database's clock.",
        },
        "correlation_id": {
            **_UUID,
            "description": "Shared by all events that follow from one request.",
        },
        "causation_id": {
            **_NULLABLE_UUID,
            "description": "The event whose handler emitted this one.",
        },
        "actor": {"type": "string", "description": "Who caused it."},
        "key": {"type": "string", "description": "Id of the aggregate that the event is about."},
    },
    "required": ["event_id", "emitted_at", "correlation_id", "actor", "key"],
}
_EXAMPLE = {
    "event_id": "0197f2a4-5c1e-7d3b-8a6f-0123456789ab",
    "emitted_at": "2026-01-01T09:30:00Z",
    "correlation_id": "0197f2a4-5c1e-7d3b-8a6f-0123456789ac",
    "causation_id": None,
    "actor": "user:7",
}


def add_internal(builder: Builder, versions: Iterable[EventVersion]) -> None:
    """Add a channel for each event, the operation that emits it, and one for each handler."""
    builder.servers[SERVER] = _SERVER
    facts = builder.schema("outbox.facts", _FACTS_OF_AN_EVENT)
    handlers = {entry.name: entry.handlers for entry in catalogue()}
    for name, group in groupby(versions, key=lambda one: one.name):
        known = list(group)
        messages = {one.label: _message(builder, one, facts) for one in known}
        channel = builder.channel(
            f"internal.{name}",
            {
                "address": name,
                "title": known[0].title,
                "description": known[0].description,
                "servers": [{"$ref": f"#/servers/{SERVER}"}],
                INTERNAL: True,
            },
            messages,
        )
        _add_operations(builder, channel, known, handlers[name])


def _add_operations(
    builder: Builder,
    channel: str,
    versions: Sequence[EventVersion],
    handlers: Sequence[CatalogueHandler],
) -> None:
    name = versions[0].name
    newest = [one.label for one in versions if one.is_newest]
    source = versions[0].source
    builder.operation(
        f"store.{name}" if source else f"emit.{name}",
        "send",
        channel=channel,
        messages=newest,
        title=f"store {name} from {source}" if source else f"emit {name}",
    )
    for handler in handlers:
        if not handler.name.startswith("sinks."):  # a sink has channels of its own
            fields = [one for one in handler.reads if one in versions[0].fields]
            builder.operation(
                f"{handler.name}.{name}",
                "receive",
                channel=channel,
                messages=[one.label for one in versions],
                title=handler.name,
                **{READS: fields},
            )


def _message(builder: Builder, version: EventVersion, facts: Reference) -> Reference:
    payload = builder.schema(version.label, version.schema)
    message = {**described(version), "headers": facts, "payload": payload}
    made = builder.example(payload)
    example = made and {
        "name": "example",
        "headers": {**_EXAMPLE, "key": str(made[version.key])},
        "payload": made,
    }
    return builder.message(version.label, message, example)
