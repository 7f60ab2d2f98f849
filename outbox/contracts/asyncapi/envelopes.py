"""Schemas of the attributes of CloudEvents, as headers or as an envelope around the payload."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from outbox.contracts import cloudevents
from outbox.contracts.schema_parts import Schema

_UUID = {"type": "string", "format": "uuid"}
_TEXT = {"type": "string"}
_OF_SINKS: Mapping[str, Mapping[str, Any]] = {
    "specversion": {"const": cloudevents.SPEC_VERSION, "description": "Version of CloudEvents."},
    "id": {**_UUID, "description": "The event's id (UUIDv7). A repeated message has the same one."},
    "source": {**_TEXT, "description": "The service that emitted it."},
    "type": {**_TEXT, "description": "Name and version of the event."},
    "subject": {**_TEXT, "description": "Key: id of the aggregate that the event is about."},
    "time": {"type": "string", "format": "date-time", "description": "Time of the emission."},
    "dataschema": {**_TEXT, "description": "Address of the payload's schema."},
    "partitionkey": {**_TEXT, "description": "Key: events of one key are in order."},
    "correlationid": {
        **_UUID,
        "description": "Shared by all events that follow from one request.",
    },
    "causationid": {**_UUID, "description": "The event whose handler emitted this one."},
    "replay": {**_TEXT, "description": "Number of the requested replay, if it is one."},
    "traceparent": {**_TEXT, "description": "W3C trace context."},
    "tracestate": {**_TEXT, "description": "W3C trace state."},
}
_OF_SOURCES: Mapping[str, Mapping[str, Any]] = {
    "specversion": {"type": "string", "const": cloudevents.SPEC_VERSION},
    "id": {**_TEXT, "description": "Unique within `source`. A repeated message is dropped."},
    "source": {**_TEXT, "description": "The sender."},
    "type": _TEXT,
    "time": {"type": "string", "format": "date-time", "description": "Time of the fact."},
    "correlationid": {**_TEXT, "description": "A UUID is taken over by the stored event."},
    "causationid": {**_TEXT, "description": "A UUID is taken over by the stored event."},
    "replay": {**_TEXT, "description": "Number of the replay that was requested of the sender."},
    "traceparent": {**_TEXT, "description": "W3C trace context, taken over."},
    "tracestate": {**_TEXT, "description": "W3C trace state, taken over."},
}
_TRACE = ("traceparent", "tracestate")
#: Attributes that every event of a sink has.
_ALWAYS = ("specversion", "id", "source", "type", "time", "correlationid")


def header_schema(
    fixed: Mapping[str, str],
    *,
    prefix: str,
    percent_encoded: bool,
    names: Collection[str],
    content_type: Mapping[str, str],
    added: Mapping[str, Schema],
) -> dict[str, Any]:
    """Return the schema of the headers of a CloudEvent that a sink sends.

    Args:
        fixed: attributes with only one value, such as `type`.
        prefix: prefix of the attributes.
        percent_encoded: whether the values are percent-encoded.
        names: the attributes that are headers.
        content_type: name and value of the header with the content type; empty: it is no header.
        added: schemas of further headers.
    """
    encode = cloudevents.encoded if percent_encoded else str
    shown = [name for name in _OF_SINKS if name in names]
    kind = {name: {"type": "string", "const": value} for name, value in content_type.items()}
    constants = {name: encode(value) for name, value in fixed.items()}
    return {
        "type": "object",
        "properties": {
            **kind,
            **{f"{prefix}{name}": _attribute(name, constants) for name in shown},
            **{name: dict(schema) for name, schema in added.items()},
        },
        "required": [
            *kind,
            *(f"{prefix}{name}" for name in shown if name in _ALWAYS or name in fixed),
            *added,
        ],
    }


def sent_attributes(fixed: Mapping[str, str], *, is_traced: bool) -> list[str]:
    """Return the names of the attributes that a sink sends, besides the content type.

    Args:
        fixed: attributes with only one value. Without a schema URL, `dataschema` is not sent.
        is_traced: whether this code traces. Without it, no trace context is sent.
    """
    optional = {"dataschema": "dataschema" in fixed, **dict.fromkeys(_TRACE, is_traced)}
    return [name for name in _OF_SINKS if optional.get(name, True)]


def received_headers(
    event_type: str, *, prefix: str, added: Mapping[str, Schema]
) -> dict[str, Any]:
    """Return the schema of the headers of a CloudEvent that a source reads, in binary encoding."""
    shown: dict[str, Any] = {
        name: dict(schema) for name, schema in _OF_SOURCES.items() if name != "type"
    }
    shown["type"] = {"type": "string", "const": event_type}
    return {
        "type": "object",
        "properties": {
            **{f"{prefix}{name}": shown[name] for name in _OF_SOURCES},
            **{name: dict(schema) for name, schema in added.items()},
        },
        "required": [
            *(f"{prefix}{name}" for name in ("specversion", "id", "source", "type")),
            *added,
        ],
    }


def envelope_schema(
    fixed: Mapping[str, str], data: Schema, *, names: Collection[str]
) -> dict[str, Any]:
    """Return the schema of a CloudEvent in structured encoding, around the schema of its data."""
    fixed = {**fixed, "datacontenttype": cloudevents.JSON}
    names = [*names, "datacontenttype"]
    return {
        "type": "object",
        "properties": {**{name: _attribute(name, fixed) for name in names}, "data": data},
        "required": [*(name for name in names if name in _ALWAYS or name in fixed), "data"],
    }


def _attribute(name: str, fixed: Mapping[str, str]) -> dict[str, Any]:
    known = _OF_SINKS.get(name, {})
    if name not in fixed:
        return dict(known)
    rest = {keyword: value for keyword, value in known.items() if keyword == "description"}
    return {"type": "string", "const": fixed[name], **rest}
