"""Channels of the configured sinks: one for each destination, with the messages that it gets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from outbox import tracing
from outbox.conf import conf
from outbox.contracts import cloudevents
from outbox.events import EventRecord
from outbox.privacy.omission import UndeclaredField
from outbox.receipt import PermanentFailure
from outbox.sinks.base import Encoding, Sink
from outbox.sinks.configuration import DEBEZIUM, SinkConfig, backend_of, configured
from outbox.sinks.messages import encoding_of, message_of
from outbox.sinks.topics import filled

from . import systems
from .builder import NO_EXAMPLE, VARIABLES, Builder, Reference
from .envelopes import envelope_schema, header_schema, sent_attributes
from .schemas import without_sensitive
from .versions import EventVersion, described

_KEY = "{key}"
_NO_EXAMPLE_OF_MAPPER = "The mapper makes no message of an example of this version."
_PARAMETER = {"description": VARIABLES["key"]}
_ID = UUID("0197f2a4-5c1e-7d3b-8a6f-0123456789ab")
_CORRELATION = UUID("0197f2a4-5c1e-7d3b-8a6f-0123456789ac")
_TIME = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def add_published(builder: Builder, versions: Iterable[EventVersion]) -> None:
    """Add the servers, channels, messages and operations of each configured sink.

    Raises:
        ImproperlyConfigured: a sink of the settings is invalid.
    """
    known = list(versions)
    for config in configured().values():
        _add_sink(builder, config, [one for one in known if config.accepts(one.name)])


def _add_sink(builder: Builder, config: SinkConfig, versions: list[EventVersion]) -> None:
    topics: dict[str, list[EventVersion]] = {}
    for version in versions:
        topic = filled(config.topic, name=version.name, version=version.version, key=_KEY)
        topics.setdefault(topic, []).append(version)
    for topic, some in topics.items():
        system = systems.system_of(backend_of(config), config.options, topic)
        channel = _add_channel(builder, config, system, some)
        if newest := [one.label for one in some if one.is_newest]:
            builder.operation(
                f"publish.{config.name}.{system.address}",
                "send",
                channel=channel,
                messages=newest,
                title=f"publish to {config.name}",
                **({"bindings": system.operation} if system.operation else {}),
            )


def _add_channel(
    builder: Builder, config: SinkConfig, system: systems.System, versions: list[EventVersion]
) -> str:
    channel = {
        "address": system.address,
        "description": f"The sink {config.name}{_order(config)}",
        **({"parameters": {"key": _PARAMETER}} if _KEY in system.address else {}),
        "servers": builder.servers_of(config.name, system),
        **({"bindings": system.channel} if system.channel else {}),
    }
    messages = {one.label: _message(builder, config, one, system) for one in versions}
    return builder.channel(f"{config.name}.{system.address}", channel, messages)


def _order(config: SinkConfig) -> str:
    if config.ordered:
        return ". First occurrences of the events of one key are in order."
    return " keeps no order."


def _message(
    builder: Builder, config: SinkConfig, version: EventVersion, system: systems.System
) -> Reference:
    described_ = described(version)
    if not version.is_newest:
        described_["description"] = (
            f"An earlier version, which the channel may still contain. Events are now sent as "
            f"version {version.newest}."
        )
    message = {
        **described_,
        **_format(builder, config, version, system),
        **({"bindings": system.message} if system.message else {}),
    }
    example = _example(builder, config, version, system)
    if "payload" not in message and example:  # of a mapper, only the example is known
        headers = example["headers"]
        kind = headers.get(system.content_type["binary"]) or headers.get(cloudevents.CONTENT_TYPE)
        message["contentType"] = kind or message["contentType"]
    reason = _NO_EXAMPLE_OF_MAPPER if config.is_mapped else NO_EXAMPLE
    return builder.message(f"{config.name}.{version.label}", message, example, no_example=reason)


def _format(
    builder: Builder, config: SinkConfig, version: EventVersion, system: systems.System
) -> dict[str, Any]:
    """Return content type and schemas of the headers and the payload."""
    if config.is_mapped:
        text = f"Written by the mapper {config.format}. Its schema is not known to the outbox."
        return {"contentType": "application/octet-stream", "description": text}
    data = _data(builder, config, version)
    if config.format == DEBEZIUM:
        headers = _debezium(version, system)
        return {"contentType": cloudevents.JSON, "headers": headers, "payload": data}
    backend, fixed = backend_of(config), _fixed(version)
    encoding = encoding_of(config, backend)
    is_binary = encoding == "binary"
    header = system.content_type[encoding]
    kind = cloudevents.JSON if is_binary else cloudevents.STRUCTURED
    names = sent_attributes(fixed, is_traced=tracing.is_on())
    headers = header_schema(
        fixed,
        content_type={header: kind} if header else {},
        prefix=backend.header_prefix,
        percent_encoded=backend.percent_encoded,
        names=names if is_binary else backend.structured_attributes,
        added=system.headers,
    )
    payload = data if is_binary else envelope_schema(fixed, data, names=names)
    return {"contentType": kind, "headers": headers, "payload": payload}


def _data(builder: Builder, config: SinkConfig, version: EventVersion) -> Reference:
    if not config.sensitive:
        reduced = without_sensitive(version.schema)
        if reduced != version.schema:
            return builder.schema(f"{version.label}.without-sensitive", reduced)
    return builder.schema(version.label, version.schema)


def _fixed(version: EventVersion) -> dict[str, str]:
    settings = conf()
    url = filled(settings.SCHEMA_URL, name=version.name, version=version.version, key="")
    fixed = {
        "specversion": cloudevents.SPEC_VERSION,
        "source": settings.SOURCE,
        "type": cloudevents.type_of(version.name, version.version),
    }
    return {**fixed, "dataschema": url} if url else fixed


def _debezium(version: EventVersion, system: systems.System) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "The event's id (UUIDv7)."},
            "eventType": {"type": "string", "const": version.name},
            "eventVersion": {"type": "string", "const": str(version.version)},
            **{name: dict(schema) for name, schema in system.headers.items()},
        },
        "required": ["id", "eventType", "eventVersion", *system.headers],
    }


def _example(
    builder: Builder, config: SinkConfig, version: EventVersion, system: systems.System
) -> Mapping[str, Any] | None:
    """Return the message that the sink sends for an example of the event."""
    made = builder.example(builder.schema(version.label, version.schema))
    # A mapper gets each event in its newest version. It need not know an earlier one.
    if made is None or (config.is_mapped and not version.is_newest):
        return None
    event = _event(version, made)
    # Its class is enough: no client is needed to build a message.
    sink = cast("Sink", backend_of(config))
    try:
        sent = message_of(config, event, sink=sink)
    except (PermanentFailure, UndeclaredField):
        return None
    except Exception:  # a mapper may read the database, and the event is an example
        if not config.is_mapped:
            raise
        return None
    encoding = encoding_of(config, backend_of(config))
    headers = _as_sent(sent.headers, system, encoding)
    return {"name": "example", "headers": headers, "payload": _as_json(sent.body)}


def _as_sent(
    headers: Mapping[str, str], system: systems.System, encoding: Encoding
) -> dict[str, str]:
    """Return the headers of a message as its system carries them."""
    header = system.content_type[encoding]
    named = {
        header if name == cloudevents.CONTENT_TYPE else name: value
        for name, value in headers.items()
        if name != cloudevents.CONTENT_TYPE or header
    }
    return {**named, **{name: schema["examples"][0] for name, schema in system.headers.items()}}


def _event(version: EventVersion, payload: Mapping[str, Any]) -> EventRecord:
    return EventRecord(
        id=_ID,
        name=version.name,
        version=version.version,
        key=str(payload[version.key]),
        payload=payload,
        emitted_at=_TIME,
        correlation_id=_CORRELATION,
        actor="user:7",
        traceparent=_TRACE if tracing.is_on() else "",
    )


def _as_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
