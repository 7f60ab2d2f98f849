"""Channels of the configured sources: one for each topic, with the messages that are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import NoReverseMatch, reverse

from outbox.contracts.json_schemas import NO_SCHEMA, read_schema
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


def add_received(builder: Builder) -> None:
    """Add the servers, channels, messages and operations of each configured source.

    Raises:
        ImproperlyConfigured: a source of the settings is invalid.
    """
    for config in configured().values():
        declared = sorted(declared_by(config.name), key=lambda one: one.event_name)
        for topic in config.topics or ("",):
            _add_topic(builder, config, topic, declared)


def _add_topic(
    builder: Builder, config: SourceConfig, topic: str, declared: Sequence[type[ExternalEvent]]
) -> None:
    origin = topic or _path(config.name)
    system = systems.system_of(config.backend_class, config.options, origin, group=config.group)
    messages = {one.event_name: _message(builder, config, one, system) for one in declared}
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
    """Return the path at which the other system calls; "" if the urls have none."""
    try:
        return reverse(receive, kwargs={"source": source})
    except NoReverseMatch:
        return ""


def _added_only(system: systems.System) -> dict[str, Any]:
    properties = {name: dict(schema) for name, schema in system.headers.items()}
    return {"type": "object", "properties": properties, "required": list(system.headers)}


def _message(
    builder: Builder, config: SourceConfig, event: type[ExternalEvent], system: systems.System
) -> Reference:
    name = f"received.{event.event_name}"
    description = (event.__doc__ or "").strip().splitlines()
    message: dict[str, Any] = {
        "name": event.event_type,
        "title": event.__name__,
        "contentType": "application/json",
        **({"summary": description[0]} if description else {}),
    }
    if config.mapper:
        text = f"Read by the mapper {config.mapper}. The schema is that of the data it returns."
        message["description"] = text
        if system.headers:
            message["headers"] = _added_only(system)
    else:
        prefix = config.backend_class.header_prefix
        message["description"] = _BINARY
        message["headers"] = received_headers(event.event_type, prefix=prefix, added=system.headers)
    try:
        payload = builder.schema(name, read_schema(event))
    except NO_SCHEMA:  # a system check reports it
        return builder.message(name, message, None)
    made = builder.example(payload)
    example = {"name": "example", "payload": made} if made is not None else None
    return builder.message(name, {**message, "payload": payload}, example)
