"""An AsyncAPI document of this code, as rows to show: channels, messages, fields, examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outbox.contracts.schema_parts import Schema, alternatives, either, resolve

from .internal import INTERNAL

_DEEPEST = 5


@dataclass(frozen=True, kw_only=True)
class FieldRow:
    """One field of a payload or header: "lines[].sku", its type in words."""

    name: str
    type: str
    is_required: bool
    is_sensitive: bool
    description: str


@dataclass(frozen=True, kw_only=True)
class MessageRow:
    """One message with its fields, headers and example, which is JSON."""

    name: str
    summary: str
    description: str
    content_type: str
    is_deprecated: bool
    is_internal: bool
    fields: Sequence[FieldRow]
    headers: Sequence[FieldRow]
    example: str
    no_example: str


@dataclass(frozen=True, kw_only=True)
class ChannelRow:
    """One channel: its servers, "kafka://kafka:9092", who sends and receives, its messages."""

    id: str
    address: str
    description: str
    is_internal: bool
    servers: Sequence[str]
    senders: Sequence[str]
    receivers: Sequence[str]
    messages: Sequence[MessageRow]


def channel_rows(made: Mapping[str, Any]) -> Iterator[ChannelRow]:
    """Yield the channels of a document, those of other systems first."""
    channels = sorted(made["channels"].items(), key=lambda one: bool(one[1].get(INTERNAL)))
    for key, channel in channels:
        operations = [
            one
            for one in made["operations"].values()
            if one["channel"]["$ref"] == f"#/channels/{key}"
        ]
        names = {
            action: [one["title"] for one in operations if one["action"] == action]
            for action in ("send", "receive")
        }
        yield ChannelRow(
            id=key,
            address=channel["address"] or key,
            description=channel.get("description", ""),
            is_internal=bool(channel.get(INTERNAL)),
            servers=[_server(made, one["$ref"]) for one in channel["servers"]],
            senders=names["send"],
            receivers=names["receive"],
            messages=[
                _message(made, one["$ref"], is_internal=bool(channel.get(INTERNAL)))
                for one in channel["messages"].values()
            ],
        )


def _server(made: Mapping[str, Any], pointer: str) -> str:
    server = made["servers"][pointer.rpartition("/")[2]]
    return f"{server['protocol']}://{server['host']}{server.get('pathname', '')}"


def _message(made: Mapping[str, Any], pointer: str, *, is_internal: bool) -> MessageRow:
    message = made["components"]["messages"][pointer.rpartition("/")[2]]
    schemas = made["components"]["schemas"]
    example = next(iter(message.get("examples", ())), None)
    return MessageRow(
        name=message["name"],
        summary=message.get("summary", ""),
        description=message.get("description", ""),
        content_type=message["contentType"],
        is_deprecated=message.get("deprecated", False),
        is_internal=is_internal,
        fields=list(_fields(message.get("payload", True), schemas)),
        headers=list(_fields(message.get("headers", True), schemas)),
        example=_example(example["payload"]) if example else "",
        no_example=message.get("x-no-example", ""),
    )


def _example(payload: Any) -> str:
    return payload if isinstance(payload, str) else json.dumps(payload, indent=2)


def _fields(
    schema: Any, schemas: Schema, path: str = "", opened: tuple[int, ...] = ()
) -> Iterator[FieldRow]:
    """Yield the fields of each alternative of a schema, each followed by those within it."""
    for one in alternatives(schema, schemas):
        if id(one) in opened or len(opened) > _DEEPEST:  # a schema may contain itself
            continue
        within = (*opened, id(one))
        for name, field in one.get("properties", {}).items():
            is_required = name in one.get("required", ())
            yield _field(f"{path}{name}", field, schemas, is_required=is_required)
            yield from _fields(field, schemas, f"{path}{name}.", within)
        if isinstance(one.get("items"), Mapping):
            yield from _fields(one["items"], schemas, f"{path.removesuffix('.')}[].", within)


def _field(name: str, schema: Any, schemas: Schema, *, is_required: bool) -> FieldRow:
    whole = resolve(schema, schemas)
    described = [one for one in (schema, whole) if isinstance(one, Mapping)]
    return FieldRow(
        name=name,
        type=either(list(alternatives(schema, schemas))),
        is_required=is_required,
        is_sensitive=any(one.get("x-sensitive") for one in described),
        description=next((one["description"] for one in described if "description" in one), ""),
    )
