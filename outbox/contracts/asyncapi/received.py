"""Channels of the configured sources: one for each topic, with the messages that are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import NoReverseMatch, reverse

from outbox.contracts.json_schemas import NO_SCHEMA, published_schema, read_schema
from outbox.contracts.schema_parts import Schema
from outbox.settlements.events import SETTLED_TYPE, Settled
from outbox.sinks import configuration as sinks
from outbox.sources.configuration import SourceConfig, configured
from outbox.sources.events import ExternalEvent, declared_by
from outbox.sources.http import receive

from . import systems
from .builder import Builder, Reference
from .envelopes import received_headers

_BINARY = (
    "A CloudEvent in binary encoding: the headers have the attributes, and the payload is the "
    "data. One in structured encoding is read as well: its body has the attributes and the data."
)
#: The id of an event of a sink, in the example of a report.
_ID = "0197f2a4-5c1e-7d3b-8a6f-0123456789ab"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind of message that a source reads.

    Attributes:
        key: its key in the channel.
        name: its key among the components.
        type: its CloudEvents type.
        title: its title.
        summary: one sentence, or "".
        what: a sentence about its processing, or "".
        schema: JSON Schema of its data; None: it has no JSON form.
    """

    key: str
    name: str
    type: str
    title: str
    summary: str
    what: str
    schema: Schema | None


def add_received(builder: Builder) -> None:
    """Add the servers, channels, messages and operations of each configured source.

    Raises:
        ImproperlyConfigured: a source or sink of the settings is invalid.
    """
    consumers = _consumers()
    for config in configured().values():
        declared = sorted(declared_by(config.name), key=lambda one: one.event_name)
        kinds = [_kind_of_event(one) for one in declared]
        if consumers and all(one.event_type != SETTLED_TYPE for one in declared):
            kinds.append(_kind_of_report(config, consumers))
        for topic in config.topics or ("",):
            _add_topic(builder, config, topic, kinds)


def _consumers() -> list[str]:
    """Return the names of the systems that report the events of sinks as settled."""
    found = (one.settled_by for one in sinks.configured().values())
    return sorted({name for one in found if one is not None for name in one.consumers})


def _kind_of_event(event: type[ExternalEvent]) -> _Kind:
    try:
        schema = read_schema(event)
    except NO_SCHEMA:  # a system check reports it
        schema = None
    return _Kind(
        key=event.event_name,
        name=f"received.{event.event_name}",
        type=event.event_type,
        title=event.__name__,
        summary=next(iter((event.__doc__ or "").strip().splitlines()), ""),
        what="",
        schema=schema,
    )


def _kind_of_report(config: SourceConfig, consumers: Sequence[str]) -> _Kind:
    """Return the report of a settlement, which any source may receive."""
    schema = published_schema(Settled)
    examples = {"event": [_ID], "consumer": consumers}
    properties = {
        name: {**one, "examples": list(examples[name])}
        for name, one in schema["properties"].items()
    }
    return _Kind(
        key=Settled.event_name,
        name=f"received.{config.name}.{Settled.event_name}",
        type=SETTLED_TYPE,
        title="Settlement report",
        summary="Another system has settled an event of a sink.",
        what=f"It is recorded, and not stored as an event. Expected of: {', '.join(consumers)}. ",
        schema={**schema, "properties": properties},
    )


def _add_topic(builder: Builder, config: SourceConfig, topic: str, kinds: Sequence[_Kind]) -> None:
    origin = topic or _path(config.name)
    system = systems.system_of(config.backend_class, config.options, origin, group=config.group)
    messages = {one.key: _message(builder, config, one, system) for one in kinds}
    channel = builder.channel(
        f"{config.name}.{origin}".rstrip("."),
        {
            "address": system.address or None,
            "description": f"The source {config.name}.",
            "servers": builder.servers_of(config.name, system),
            **({"bindings": system.channel} if system.channel else {}),
        },
        messages,
    )
    if messages:
        builder.operation(
            f"receive.{config.name}.{origin}".rstrip("."),
            "receive",
            channel=channel,
            messages=list(messages),
            title=f"receive from {config.name}",
            **({"bindings": system.operation} if system.operation else {}),
        )


def _path(source: str) -> str:
    """Return the path at which the other system calls; "" if the project has no such URL."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return ""
    try:
        return reverse(receive, kwargs={"source": source})
    except NoReverseMatch:
        return ""


def _added_only(system: systems.System) -> dict[str, Any]:
    properties = {name: dict(schema) for name, schema in system.headers.items()}
    return {"type": "object", "properties": properties, "required": list(system.headers)}


def _message(
    builder: Builder, config: SourceConfig, kind: _Kind, system: systems.System
) -> Reference:
    message: dict[str, Any] = {
        "name": kind.type,
        "title": kind.title,
        "contentType": "application/json",
        **({"summary": kind.summary} if kind.summary else {}),
        **_format(config, kind, system),
    }
    if kind.schema is None:
        return builder.message(kind.name, message, None)
    payload = builder.schema(kind.name, kind.schema)
    made = builder.example(payload)
    example = {"name": "example", "payload": made} if made is not None else None
    return builder.message(kind.name, {**message, "payload": payload}, example)


def _format(config: SourceConfig, kind: _Kind, system: systems.System) -> dict[str, Any]:
    """Return the description of the encoding, and the schema of the headers."""
    if config.mapper:
        text = f"Read by the mapper {config.mapper}. The schema is that of the data it returns."
        headers = _added_only(system) if system.headers else None
    else:
        text, prefix = _BINARY, config.backend_class.header_prefix
        headers = received_headers(kind.type, prefix=prefix, added=system.headers)
    described = {"description": f"{kind.what}{text}"}
    return {**described, "headers": headers} if headers else described
