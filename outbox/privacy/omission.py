"""Omit sensitive fields from the payload of an event that leaves this system.

A field is absent afterwards, also where its value was null. So a reader cannot mistake a mask for a
value. Within a list, null takes the place of a sensitive item, so that positions stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from outbox.contracts.schema_parts import alternatives, item, other_properties
from outbox.events import EventRecord

from . import plans
from .sensitive import Schema, replaced, schemas_of


class UnknownSchema(Exception):
    """No schema of the event is known, so neither are its sensitive fields."""


class UndeclaredField(Exception):
    """A field is in the payload, but not in the schema, so it is unknown whether it is sensitive.

    A newer release may declare it: then a worker of that release can publish the event.
    """


@dataclass(frozen=True)
class Omitted:
    """A payload without its sensitive fields.

    Attributes:
        payload: the payload. Contains no sensitive value.
        fields: the omitted fields: "email", "customer.name", "lines[].note".
    """

    payload: dict[str, Any] = field(repr=False)
    fields: tuple[str, ...]


class _Placeholder:
    """Stands in a payload for a value, while its sensitive ones are replaced."""


_SENSITIVE = _Placeholder()
_NULL = _Placeholder()


def without_sensitive(event: EventRecord) -> Omitted:
    """Return an event's payload without its sensitive fields, also nested ones.

    Raises:
        UnknownSchema: no installed app declares the event, and no lock file records its version.
        UndeclaredField: the payload has a field that its schema does not declare.
    """
    schemas = schemas_of(event)
    if not schemas:
        raise UnknownSchema(
            f"The sensitive fields of {event.name}, version {event.version}, are unknown: no "
            "installed app declares the event, and no events.lock.json records the version."
        )
    own = schemas[-1]  # of exactly this version, where it is known
    if len(schemas) == 1 and (found := _by_plan(event.payload, own)):
        return found
    for place in _undeclared(event.payload, own, own.get("$defs", {})):
        raise UndeclaredField(
            f"{event.name} has the field {place.lstrip('.')}, which version {event.version} does "
            "not declare here, so it may be sensitive. A release that declares it can publish the "
            "event. If none does, remove the field in the event's @upcast."
        )
    payload = _without_nulls(event.payload)
    for schema in schemas:
        payload = replaced(payload, schema, lambda *_: _SENSITIVE)
    places: dict[str, None] = {}
    cleaned = _cleaned(payload, "", places)
    return Omitted(cleaned, tuple(place.lstrip(".") for place in places))


def _by_plan(payload: Mapping[str, Any], schema: Schema) -> Omitted | None:
    """Return the payload without sensitive fields if the schema is simple enough, else None."""
    clean = plans.plan_of(schema)
    if clean is None:
        return None
    places: dict[str, None] = {}
    try:
        cleaned = clean(payload, "", places)
    except plans.Unplanned:
        return None
    return Omitted(cleaned, tuple(places))


def _without_nulls(value: Any) -> Any:
    """Return a copy with placeholders for null, since `replaced` does not replace null."""
    if value is None:
        return _NULL
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value


def _cleaned(value: Any, place: str, places: dict[str, None]) -> Any:
    """Return a copy without placeholders; collect the places of sensitive values."""
    if value is _NULL:
        return None
    if isinstance(value, Mapping):
        return {
            name: _cleaned(part, f"{place}.{name}", places)
            for name, part in value.items()
            if not _is_omitted(part, f"{place}.{name}", places)
        }
    if isinstance(value, list):
        is_omitted = [_is_omitted(part, f"{place}[]", places) for part in value]
        if all(is_omitted):
            return []
        return [
            None if omitted else _cleaned(part, f"{place}[]", places)
            for part, omitted in zip(value, is_omitted, strict=True)
        ]
    return value


def _is_omitted(value: Any, place: str, places: dict[str, None]) -> bool:
    if value is _SENSITIVE:
        places[place] = None
    return value is _SENSITIVE


def _undeclared(value: Any, schema: Any, defs: Schema, place: str = "") -> Iterator[str]:
    """Yield the places of fields that no alternative of the schema declares."""
    if not isinstance(value, Mapping | list):
        return
    kind = "object" if isinstance(value, Mapping) else "array"
    fitting = [one for one in alternatives(schema, defs) if one.get("type", kind) == kind]
    found = [list(_undeclared_in(value, one, defs, place)) for one in fitting]
    yield from min(found, key=len, default=[place])


def _undeclared_in(value: Any, schema: Schema, defs: Schema, place: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _undeclared(part, item(schema, index), defs, f"{place}[]")
        return
    named = schema.get("properties", {})
    others = other_properties(schema, default="properties" not in schema)
    for name, part in value.items():
        if name in named:
            yield from _undeclared(part, named[name], defs, f"{place}.{name}")
        elif others is False:
            yield f"{place}.{name}"
        else:
            yield from _undeclared(part, others, defs, f"{place}.{name}")
