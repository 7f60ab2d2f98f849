"""Schemas of an AsyncAPI document: pydantic's JSON Schema as components, in draft-07's keywords.

AsyncAPI's Schema Object is a superset of JSON Schema draft-07. A reference is resolved from the
root of the document, so each definition becomes a component of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outbox.contracts.schema_parts import Schema, resolve

#: Keywords whose value maps names to schemas.
NAMED = ("properties", "patternProperties")
#: Keywords whose value is a schema, a list of schemas, or a boolean.
NESTED = (
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
)
_SENSITIVE = "sensitive"
_NULL = {"type": "null"}
_POINTER = "#/components/schemas/"


class Components:
    """The schemas of one document by name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}

    def add(self, name: str, schema: Schema) -> dict[str, Any]:
        """Store a schema and its definitions, and return a reference to it.

        A definition `Money` of the schema "orders.OrderPlaced.v1" is stored as
        "orders.OrderPlaced.v1.Money".
        """
        for part, definition in schema.get("$defs", {}).items():
            self.schemas[f"{name}.{part}"] = _converted(definition, name)
        rest = {keyword: value for keyword, value in schema.items() if keyword != "$defs"}
        self.schemas[name] = _converted(rest, name)
        return {"$ref": f"{_POINTER}{name}"}


def without_sensitive(schema: Schema) -> dict[str, Any]:
    """Return the schema of a payload after `outbox.privacy.omission.without_sensitive`.

    A sensitive field is absent. A list has no sensitive items, a tuple has null in their place, and
    a dictionary has no sensitive values.
    """
    made: dict[str, Any] = _without(schema, schema.get("$defs", {}))
    return made


def _converted(schema: Any, owner: str) -> Any:
    """Return a schema in draft-07's keywords, with references to components of `owner`."""
    if isinstance(schema, list):
        return [_converted(one, owner) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        name: _nested(name, value, owner)
        for name, value in schema.items()
        # The discriminator of pydantic is OpenAPI's. A `const` in each alternative means the same.
        if name not in (_SENSITIVE, "$ref", "discriminator")
    }
    if "prefixItems" in made:
        rest = made.pop("items", None)
        made["items"] = made.pop("prefixItems")
        made |= {} if rest is None else {"additionalItems": rest}
    if _SENSITIVE in schema:
        made["x-sensitive"] = True
    return made | _reference(schema, made, owner) if "$ref" in schema else made


def _reference(schema: Schema, siblings: Schema, owner: str) -> dict[str, Any]:
    """Return a reference; draft-07 ignores keywords beside it, so it then stands in an `allOf`."""
    pointer = {"$ref": f"{_POINTER}{owner}.{schema['$ref'].rpartition('/')[2]}"}
    return {"allOf": [pointer]} if siblings else pointer


def _nested(name: str, value: Any, owner: str) -> Any:
    if name in NAMED:
        return {key: _converted(one, owner) for key, one in value.items()}
    return _converted(value, owner) if name in NESTED else value


def _without(schema: Any, defs: Schema) -> Any:
    if isinstance(schema, list):
        return [_without(one, defs) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        name: {key: _without(one, defs) for key, one in value.items()}
        if name in (*NAMED, "$defs")
        else _without(value, defs)
        if name in NESTED
        else value
        for name, value in schema.items()
    }
    _omit_properties(made, schema, defs)
    _omit_items(made, schema, defs)
    return made


def _omit_properties(made: dict[str, Any], schema: Schema, defs: Schema) -> None:
    named = schema.get("properties", {})
    hidden = {name for name, one in named.items() if _is_omitted(one, defs)}
    if hidden:
        made["properties"] = {
            name: one for name, one in made["properties"].items() if name not in hidden
        }
        made["required"] = [one for one in schema.get("required", ()) if one not in hidden]
    if _is_omitted(schema.get("additionalProperties"), defs):
        made["additionalProperties"] = False
        made.pop("minProperties", None)


def _omit_items(made: dict[str, Any], schema: Schema, defs: Schema) -> None:
    fixed = [_is_omitted(one, defs) for one in schema.get("prefixItems", ())]
    has_rest = schema.get("maxItems") != len(fixed)
    rest = [_is_omitted(schema["items"], defs)] if "items" in schema and has_rest else []
    if not any([*fixed, *rest]):
        return
    if all([*fixed, *rest]):
        for keyword in ("prefixItems", "items", "minItems"):
            made.pop(keyword, None)
        made["maxItems"] = 0
        return
    if fixed:
        positions = zip(fixed, made["prefixItems"], strict=True)
        made["prefixItems"] = [_NULL if omitted else one for omitted, one in positions]
    if any(rest):
        made["items"] = _NULL


def _is_omitted(schema: Any, defs: Schema) -> bool:
    """Return whether a value has the mark in any alternative, or is a dictionary with such keys."""
    if not isinstance(schema, Mapping):
        return False
    if schema.get(_SENSITIVE) is True:
        return True
    whole = resolve(schema, defs)
    if isinstance(whole, bool):
        return False
    unions = [*whole.get("anyOf", ()), *whole.get("oneOf", ()), *whole.get("allOf", ())]
    keys = whole.get("propertyNames", {})
    return (
        whole.get(_SENSITIVE) is True
        or keys.get(_SENSITIVE) is True
        or any(_is_omitted(one, defs) for one in unions)
    )
