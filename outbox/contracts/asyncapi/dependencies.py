"""Compare the external events of this code with the AsyncAPI document of the system they come from.

An external event is found by its CloudEvents type: a constant among the headers of a message or in
its envelope, or the message's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outbox.contracts.compatibility import mismatches
from outbox.contracts.schema_parts import Schema, literals, resolve

from .reading import Contract, Message

#: Names of the attribute `type` among the headers, in lower case.
_TYPE = {"type", "ce-type", "ce_type", "cloudevents-type", "cloudevents_type", "cloudevents:type"}
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Reader:
    """An external event of this code.

    Attributes:
        event: its name, "billing.InvoicePaid".
        type: the CloudEvents type of its messages.
        schema: JSON Schema of the data as this code reads it.
    """

    event: str
    type: str
    schema: Schema = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result, in sentences.

    Attributes:
        problems: messages that this code could not read.
        doubts: values that fit only if they have a format that the document does not state.
    """

    problems: Sequence[str]
    doubts: Sequence[str]


def compare(readers: Sequence[Reader], contract: Contract) -> Comparison:
    """Compare each external event with every message of its type."""
    problems: list[str] = []
    doubts: list[str] = []
    for reader in readers:
        found = [one for _channel, one in contract.messages() if reader.type in types_of(one)]
        if not found:
            problems.append(_missing(reader, contract))
        for message in found:
            certain = list(_mismatches(reader, message, assumes_formats=True))
            problems += certain
            strict = _mismatches(reader, message, assumes_formats=False)
            doubts += [one for one in strict if one not in certain]
    return Comparison(problems=list(dict.fromkeys(problems)), doubts=list(dict.fromkeys(doubts)))


def types_of(message: Message) -> set[str]:
    """Return the CloudEvents types that a message may have, and its names."""
    found = {message.name, message.key} - {""}
    headers = _properties(message.headers)
    found.update(*(_texts(one) for name, one in headers.items() if name.lower() in _TYPE))
    if _is_envelope(message.payload):
        found |= _texts(_properties(message.payload)["type"])
    return found


def _mismatches(reader: Reader, message: Message, *, assumes_formats: bool) -> Iterator[str]:
    place = f"{reader.event}, message {message.key}: "
    if message.payload is None:
        yield f"{place}its schema is no JSON Schema, so it is not compared."
        return
    data = _data(message.payload)
    if isinstance(data, bool) or not data.keys() - {"$defs"}:
        yield f"{place}the document gives no schema of its data."
        return
    for sentence in mismatches(data, reader.schema, assumes_formats=assumes_formats):
        yield f"{place}{_in_words(sentence)}."


def _in_words(sentence: str) -> str:
    # `mismatches` words its sentences for an event and a handler.
    return sentence.replace("the event", "the message").replace("the handler", "this code")


def _missing(reader: Reader, contract: Contract) -> str:
    known = sorted({one.name or one.key for _channel, one in contract.messages()})
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    listed = ", ".join(known[:_SHOWN]) + more if known else "no message"
    return (
        f"{reader.event}: {contract.title} {contract.version} has no message of the type "
        f"{reader.type}. It has {listed}."
    )


def _data(payload: Schema | bool) -> Schema | bool:
    """Return the schema of the data within an envelope, or of the payload."""
    if isinstance(payload, bool) or not _is_envelope(payload):
        return payload
    data = _properties(payload).get("data", True)
    return data if isinstance(data, bool) else {**data, "$defs": payload.get("$defs", {})}


def _is_envelope(payload: Schema | bool | None) -> bool:
    return {"specversion", "type", "source"} <= _properties(payload).keys()


def _properties(schema: Schema | bool | None) -> Mapping[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    whole = resolve(schema, schema.get("$defs", {}))
    found: Mapping[str, Any] = {} if isinstance(whole, bool) else whole.get("properties", {})
    return found


def _texts(schema: Any) -> set[str]:
    values = literals(schema) if isinstance(schema, Mapping) else None
    return {one for one in values or () if isinstance(one, str)}
