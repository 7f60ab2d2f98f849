"""Checks that sensitive fields can be masked and blanked. The messages:

E024 an event's key, or a field of its subject, is sensitive
E025 a sensitive field's type takes no blank value
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from pydantic import ValidationError

from outbox.contracts.catalogue import place
from outbox.contracts.schema_parts import alternatives, item
from outbox.events import DomainEvent
from outbox.privacy.marks import MARK, schema_of
from outbox.privacy.sensitive import Schema, blank


def check_sensitive(event: type[DomainEvent]) -> Iterator[CheckMessage]:
    """Find sensitive fields that cannot be masked everywhere, or cannot be blanked."""
    schema = schema_of(event)
    if schema is None:
        return
    for name in (event.event_key, *event.subject_fields()):
        if schema["properties"].get(name, {}).get(MARK):
            yield _not_hidden(event, name)
    marked: set[tuple[str, ...]] = set()
    example = _example(schema, schema.get("$defs", {}), (), marked)
    for place_, message in _misfits(event, example):
        if any(place_[: len(path)] == path for path in marked):
            yield _not_blank(event, ".".join(place_), message)


def _example(schema: Any, defs: Schema, path: tuple[str, ...], marked: set[Any]) -> Any:
    """Return a payload of blanks with all fields and one item per list; collect marked paths."""
    if schema.get(MARK):
        marked.add(path)
        return blank(schema, defs)
    kinds = [one for one in alternatives(schema, defs) if one.get("type") != "null"]
    first: Schema = kinds[0] if kinds and len(path) < 20 else {}
    if first.get(MARK):
        marked.add(path)
    elif "properties" in first:
        return {
            name: _example(part, defs, (*path, name), marked)
            for name, part in first["properties"].items()
        }
    elif first.get("type") == "array" and isinstance(item(first, 0), dict):
        return [_example(item(first, 0), defs, (*path, "0"), marked)]
    return blank(schema if not kinds else first, defs)


def _misfits(event: type[DomainEvent], example: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    fields = {name: example[name] for name in event.model_fields if name in example}
    try:
        event.model_validate(fields, by_name=True)
    except ValidationError as error:
        for one in error.errors(include_input=False):
            yield tuple(map(str, one["loc"])), one["msg"]


def _not_hidden(event: type[DomainEvent], name: str) -> CheckMessage:
    return Error(
        f"{event.event_name} has {name} as its key or in its subject, and marks it as sensitive.",
        hint="Keys and subjects stand in logs and lists, and are never blanked: take an id.",
        obj=place(event),
        id="outbox.E024",
    )


def _not_blank(event: type[DomainEvent], name: str, message: str) -> CheckMessage:
    return Error(
        f"{name} of {event.event_name} is sensitive, and its type takes no blank: {message}.",
        hint="Let it be null, Sensitive[... | None], or validate it where it comes in.",
        obj=place(event),
        id="outbox.E025",
    )
