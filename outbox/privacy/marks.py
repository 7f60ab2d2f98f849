"""Sensitive[...]: the mark of fields with personal data.

class ParcelSent(DomainEvent, key="parcel_id", subject="customer:{customer_id}"):
    parcel_id: UUID
    customer_id: UUID
    email: Sensitive[str]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from outbox.contracts.json_schemas import NO_SCHEMA, recorded_schema
from outbox.contracts.schema_parts import Schema, resolve

T = TypeVar("T")

MASK = "***"
MARK = "sensitive"


class _Mark:
    """Adds the mark to the JSON Schema, where it is found in any position and recorded."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(core_schema), MARK: True}


Sensitive = Annotated[T, _Mark()]
"""A field with personal data: `email: Sensitive[str]`, `born: Sensitive[date | None] = None`.

It may be nested in lists and models. Handlers get the value. It is masked in the admin, in logs, in
the command's output, and in messages and tracebacks of failed attempts. `manage.py outbox redact`
blanks it in stored events: by null if the type allows it, otherwise by an empty text, zero, an
empty list and so on. `manage.py check` finds types that accept no such value.
"""


@lru_cache(maxsize=1000)
def schema_of(event: type[BaseModel]) -> Schema | None:
    """Return the schema of a model, or None if it has none."""
    try:
        return recorded_schema(event)
    except NO_SCHEMA:  # a system check reports it
        return None


def is_sensitive(model: type[BaseModel], field: str | None) -> bool:
    """Return whether a field of a model is marked, or contains a marked one."""
    schema = schema_of(model)
    found: list[Any] = []
    if schema and field in schema.get("properties", {}):
        _find_marks(schema["properties"][field], schema.get("$defs", {}), found, [])
    return bool(found)


def _find_marks(schema: Any, defs: Schema, found: list[Any], seen: list[Any]) -> None:
    if isinstance(schema, list):
        for one in schema:
            _find_marks(one, defs, found, seen)
    elif isinstance(schema, Mapping) and schema not in seen:
        seen.append(schema)
        if schema.get(MARK) is True:
            found.append(schema)
        _find_marks(list(schema.values()), defs, found, seen)
        if "$ref" in schema:
            _find_marks(resolve(schema, defs), defs, found, seen)
