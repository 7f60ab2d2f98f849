"""Mask or replace sensitive values in payloads, and in texts that may quote them.

Every display uses `masked` and `masked_text`. An event without a known schema is masked as a whole.
`blank` returns the value that permanently replaces a sensitive one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol
from uuid import UUID

from outbox import events
from outbox.contracts import lock as contract_lock
from outbox.contracts.schema_parts import alternatives, item, other_properties, resolve

from .marks import MARK, MASK, schema_of
from .masking import masked_values, traceback_without_messages

logger = logging.getLogger("outbox.sensitive")


class HasSchema(Protocol):
    """The columns of an event that name its schema."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...


class StoredEvent(HasSchema, Protocol):
    """An event as it is stored: the row, or its part of a timeline."""

    @property
    def id(self) -> UUID: ...
    @property
    def payload(self) -> dict[str, Any]: ...


Schema = Mapping[str, Any]
#: Returns the replacement of a sensitive value from its schema, the definitions and the value.
Replacement = Callable[[Schema, Schema, Any], Any]


def masked(event: StoredEvent) -> dict[str, Any]:
    """Return a stored event's payload for display: sensitive values are "***"."""
    schemas = schemas_of(event)
    payload = dict(event.payload)
    if not schemas:
        return dict.fromkeys(payload, MASK)
    for schema in schemas:
        payload = replaced(payload, schema, lambda *_: MASK)
    return payload


def masked_text(text: str, event: StoredEvent) -> str:
    """Return a text in which sensitive values of this event are "***", in any quoted form.

    Parts of at least eight characters at the beginning or end of a value are masked, too. It never
    raises.
    """
    try:
        return masked_values(text, sensitive_values(event), mask=MASK)
    except Exception as error:  # better no text than one with a person's data
        logger.error(
            "A text about event %s was not masked.\n%s", event.id, traceback_without_messages(error)
        )
        return "(a text that could not be masked)"


def sensitive_values(event: StoredEvent) -> list[Any]:
    """Return the sensitive values of a stored event, with lists and objects flattened.

    The keys of a sensitive mapping are among them, the names of fields are not.
    """
    found: list[Any] = []

    def collect(schema: Schema, defs: Schema, value: Any) -> Any:
        found.extend(_leaves(value, _names_of_fields(schema, *defs.values())))
        return value

    schemas = schemas_of(event)
    if not schemas:
        return list(_leaves(event.payload, set(event.payload)))
    for schema in schemas:
        replaced(event.payload, schema, collect)
    return found


def replaced(payload: Mapping[str, Any], schema: Schema, replace: Replacement) -> dict[str, Any]:
    """Return a payload with each sensitive value replaced; null stays null."""
    made = _replaced(payload, schema, schema.get("$defs", {}), replace)
    return made if isinstance(made, dict) else dict(payload)


def schemas_of(event: HasSchema) -> list[Schema]:
    """Return the schemas that mark the sensitive fields of a stored event; none: it is unknown.

    For a version that is not the class's these are the class's and the recorded one: the class may
    have lost a field since, and a field may have been marked since.
    """
    known = events.find(event.name)
    schemas = [schema_of(known)] if known else []
    if known is None or event.version != known.event_version:
        schemas.append(contract_lock.schema_of(name=event.name, version=event.version))
    return [schema for schema in schemas if schema is not None]


def _replaced(value: Any, schema: Any, defs: Schema, replace: Replacement) -> Any:
    if value is None or isinstance(schema, bool):
        return value
    if schema.get(MARK):
        return replace(schema, defs, value)
    whole = resolve(schema, defs)
    if isinstance(whole, bool):
        return value
    if whole is not schema:
        return _replaced(value, whole, defs, replace)
    for one in (*whole.get("anyOf", ()), *whole.get("oneOf", ()), *whole.get("allOf", ())):
        value = _replaced(value, one, defs, replace)
    if isinstance(value, Mapping):
        if whole.get("propertyNames", {}).get(MARK):
            return replace(whole, defs, value)
        others = other_properties(whole, default=True)
        named = whole.get("properties", {})
        return {
            name: _replaced(part, named.get(name, others), defs, replace)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [
            _replaced(part, item(whole, index), defs, replace) for index, part in enumerate(value)
        ]
    return value


def _names_of_fields(*schemas: Any) -> set[str]:
    found = (one.get("properties", ()) for one in schemas if isinstance(one, Mapping))
    return {name for names in found for name in names}


def _leaves(value: Any, names: Collection[str]) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from (key for key in value if key not in names)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part, names)
    elif value is not None and not isinstance(value, bool):
        yield value


def blank(schema: Schema, defs: Schema, *_value: Any) -> Any:
    """Return a blank value that fits a schema: null if the schema allows it."""
    kinds = list(alternatives(schema, defs))
    if not kinds or any(one.get("type") == "null" for one in kinds):
        return None
    return _blank_of(kinds[0], defs)


def _blank_of(schema: Schema, defs: Schema) -> Any:
    if "const" in schema or "enum" in schema:
        return schema.get("const", next(iter(schema.get("enum", ())), None))
    kind = schema.get("type")
    if kind == "object":
        named = schema.get("properties", {})
        return {
            name: blank(named[name], defs) for name in schema.get("required", ()) if name in named
        }
    if kind == "array":
        return [blank(item(schema, index), defs) for index in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1, 0)
    if kind == "boolean":
        return False
    return _TEXTS.get(schema.get("format", ""), "-" * schema.get("minLength", 0))


_TEXTS = {
    "uuid": "00000000-0000-0000-0000-000000000000",
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "decimal": "0",
    "email": "redacted@example.com",
    "uri": "https://example.com/",
}
