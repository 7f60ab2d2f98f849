"""The differences between two AsyncAPI documents, those first that break another system.

A message that the application sends must still fit a receiver who follows the old document. One
that it receives must still be accepted from a sender who follows the old document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outbox.contracts.compatibility import mismatches
from outbox.contracts.schema_parts import Schema

from .reading import Action, Channel, Contract, Message

_SCHEMA_CHANGED = ": the schema of its "


@dataclass(frozen=True)
class Difference:
    """One difference in a sentence. `is_compatible`: no other system has to change."""

    text: str
    is_compatible: bool = True


def differences(old: Contract, new: Contract) -> list[Difference]:
    """Return the differences from one contract to the next, the breaking ones first."""
    breaking = sorted(set(_breaks(old, new)))
    others = sorted({text for text in _changes(old, new) if not _is_explained(text, breaking)})
    return [Difference(text, False) for text in breaking] + [Difference(text) for text in others]


def _is_explained(text: str, breaking: Iterable[str]) -> bool:
    place, found, _rest = text.partition(_SCHEMA_CHANGED)
    return bool(found) and any(one.startswith(place) for one in breaking)


def _breaks(old: Contract, new: Contract) -> Iterator[str]:
    for channel in old.channels.values():
        now = _counterpart(channel, new)
        if now is None:
            yield f"Channel {_name(channel)} is removed."
            continue
        if channel.address != now.address:
            yield f"Channel {_name(channel)} has the new address {now.address or '(none)'}."
        for action, key in sorted(channel.actions):
            if key in channel.messages:
                yield from _broken_message(action, channel, channel.messages[key], now)


def _broken_message(
    action: Action, channel: Channel, message: Message, now: Channel
) -> Iterator[str]:
    place = f"Channel {_name(channel)}, message {message.key}"
    current = _same(message, now.messages)
    if current is None:
        yield f"{place}: is removed."
        return
    if (action, current.key) not in now.actions:
        if not _is_read_as_another(channel, now, current):
            yield f"{place}: is no longer {'sent' if action == 'send' else 'received'}."
        return
    if message.content_type != current.content_type:
        yield f"{place}: its content type was {message.content_type} and is {current.content_type}."
    yield from _broken_schema(action, f"{place}: ", message.payload, current.payload)
    yield from _broken_schema(action, f"{place}, headers: ", message.headers, current.headers)


def _is_read_as_another(channel: Channel, now: Channel, message: Message) -> bool:
    """Return whether the same application still reads it, as an earlier version of its event."""
    return channel.is_internal and ("receive", message.key) in now.actions


def _broken_schema(
    action: Action, place: str, before: Schema | bool | None, now: Schema | bool | None
) -> Iterator[str]:
    if before is None or now is None:
        if (before is None) != (now is None):
            yield f"{place}the language of its schema changed."
        return
    sent = action == "send"
    written, read = (now, before) if sent else (before, now)
    if isinstance(read, bool) or isinstance(written, bool):
        if read is not True and written is not read:
            yield f"{place}its schema changed between any value and certain values."
        return
    for sentence in mismatches(written, read):
        yield place + _in_words(sentence, sent=sent) + "."


def _in_words(sentence: str, *, sent: bool) -> str:
    # `mismatches` words its sentences for an event and a handler.
    writer = "the new message" if sent else "a present sender's message"
    reader = "a present receiver" if sent else "the new version"
    return sentence.replace("the event", writer).replace("the handler", reader)


def _changes(old: Contract, new: Contract) -> Iterator[str]:
    yield from _changes_of_info(old, new)
    for channel in new.channels.values():
        before = _counterpart(channel, old)
        if before is None:
            yield f"Channel {_name(channel)} is new."
        else:
            yield from _changes_of_channel(before, channel)


def _changes_of_info(old: Contract, new: Contract) -> Iterator[str]:
    for word in ("title", "version"):
        was, now = getattr(old, word), getattr(new, word)
        if was != now:
            yield f"The document's {word} was {was} and is {now}."
    for name in sorted({*old.servers, *new.servers}):
        if name not in new.servers:
            yield f"Server {name} is removed."
        elif name not in old.servers:
            yield f"Server {name} is new."
        elif old.servers[name] != new.servers[name]:
            yield f"Server {name} changed."


def _changes_of_channel(old: Channel, new: Channel) -> Iterator[str]:
    place = f"Channel {_name(new)}"
    if old.bindings != new.bindings:
        yield f"{place}: its bindings changed."
    for name in old.operations.keys() - new.operations.keys():
        yield f"{place}: operation {name} is removed."
    for name in new.operations.keys() - old.operations.keys():
        yield f"{place}: operation {name} is new."
    for message in new.messages.values():
        before = _same(message, old.messages)
        if before is None:
            yield f"{place}, message {message.key}: is new."
        else:
            yield from _changes_of_fields(f"{place}, message {message.key}", before, message)
    in_use = {key for _action, key in old.actions}
    for message in old.messages.values():
        if message.key not in in_use and _same(message, new.messages) is None:
            yield f"{place}, message {message.key}: is no longer described."


def _changes_of_fields(place: str, old: Message, new: Message) -> Iterator[str]:
    were, are = _properties(old.payload), _properties(new.payload)
    for name in sorted(are.keys() - were.keys()):
        yield f"{place}: has the new field {name}."
    for name in sorted(were.keys() - are.keys()):
        yield f"{place}: no longer has the field {name}."
    if were.keys() == are.keys() and old.payload != new.payload:
        yield f"{place}{_SCHEMA_CHANGED}payload changed."
    if old.headers != new.headers:
        yield f"{place}{_SCHEMA_CHANGED}headers changed."


def _properties(schema: Schema | bool | None) -> Mapping[str, Any]:
    while isinstance(schema, Mapping) and "$ref" in schema:
        schema = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2])
    found: Mapping[str, Any] = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return found


def _counterpart(channel: Channel, contract: Contract) -> Channel | None:
    """Return the channel with the same id, or else with the same address."""
    if channel.id in contract.channels:
        return contract.channels[channel.id]
    same = (one for one in contract.channels.values() if one.address == channel.address != "")
    return next(same, None)


def _same(message: Message, others: Mapping[str, Message]) -> Message | None:
    """Return the message with the same key, or else with the same name."""
    if message.key in others:
        return others[message.key]
    return next((one for one in others.values() if one.name == message.name != ""), None)


def _name(channel: Channel) -> str:
    return channel.address or channel.id
