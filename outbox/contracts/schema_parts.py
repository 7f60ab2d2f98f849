"""Parts of one JSON Schema: its alternatives, properties and items, and its wording."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

ANYTHING: Schema = {}
INFINITE = float("inf")

_NOUNS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def resolve(schema: Schema | bool, defs: Schema) -> Schema | bool:
    """Follow references. Keywords beside a reference only describe and are ignored."""
    while not isinstance(schema, bool) and "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    return schema


def alternatives(schema: Schema | bool, defs: Schema) -> Iterator[Schema]:
    """Yield the resolved alternatives of a schema, from unions and lists of types."""
    schema = resolve(schema, defs)
    if isinstance(schema, bool):
        yield from [ANYTHING] if schema else []
        return
    union = schema.get("anyOf") or schema.get("oneOf")
    if union is None and len(schema.get("allOf", ())) == 1:
        union = schema["allOf"]
    if union:
        for one in union:
            yield from alternatives(one, defs)
    elif isinstance(schema.get("type"), list):
        yield from ({**schema, "type": one} for one in schema["type"])
    elif "format" in schema and "type" not in schema:
        yield {"type": "string", **schema}
    else:
        yield schema


def is_anything(schema: Schema) -> bool:
    """Return whether every value fits the schema."""
    return not {"type", "enum", "const", "allOf", "not"} & set(schema)


def literals(schema: Schema) -> list[Any] | None:
    """Return the only values that fit (Literal, Enum), or None."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def type_of(value: Any) -> str:
    """Return JSON Schema's name for the type of a JSON value."""
    return "null" if value is None else _TYPES.get(type(value), "object")


def format_of(schema: Schema) -> Any:
    """Return the format of a string: "uuid", "date-time", "application/json", or None."""
    return schema.get("format", schema.get("contentMediaType"))


def other_properties(schema: Schema, *, default: Any) -> Any:
    """Return the schema of unnamed properties, or False if none are allowed."""
    by_pattern = list(schema.get("patternProperties", {}).values())
    return schema.get("additionalProperties", {"anyOf": by_pattern} if by_pattern else default)


def lengths(schema: Schema) -> tuple[int, float]:
    """Return the shortest and the longest length of an array."""
    return schema.get("minItems", 0), schema.get("maxItems", INFINITE)


def item(schema: Schema, index: int) -> Any:
    """Return the schema of an array's item at `index`."""
    prefix = schema.get("prefixItems", ())
    return prefix[index] if index < len(prefix) else schema.get("items", ANYTHING)


def noun(schema: Schema) -> str:
    """Return a schema in a few words: "a string (uuid)", "an object (Money)", "a list of 2"."""
    only = literals(schema)
    if only is not None:
        return quoted(only)
    if "prefixItems" in schema:
        return f"a list of {_count(schema)}"
    detail = schema.get("title") if "properties" in schema else format_of(schema)
    word = _NOUNS.get(schema.get("type", ""), "anything")
    return f"{word} ({detail})" if detail else word


def either(schemas: list[Schema]) -> str:
    """Return several schemas in words: "an integer or null"."""
    return " or ".join(dict.fromkeys(noun(one) for one in schemas)) or "nothing"


def quoted(values: list[Any]) -> str:
    """Return values in words, as JSON."""
    return " or ".join(json.dumps(one, ensure_ascii=False) for one in values)


def _count(schema: Schema) -> str:
    least, most = lengths(schema)
    if most == INFINITE:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"
