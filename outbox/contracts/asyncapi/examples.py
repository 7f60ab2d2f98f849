"""Examples of payloads, made from their schemas: the same schema gives the same example."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outbox.contracts.schema_parts import Schema, format_of

#: Values of strings by their format. "{}" is a digit that keeps the items of a list apart.
_FORMATS = {
    "base64": "ZGF0YSA{}",  # "data 4" to "data ="
    "base64url": "ZGF0YSA{}",
    "binary": "data {}",
    "boolean": "true",
    "date": "2026-01-0{}",
    "date-time": "2026-01-0{}T09:30:00Z",
    "decimal": "1{}.50",
    "directory-path": "/data/{}",
    "duration": "PT{}H",
    "email": "person{}@example.com",
    "file-path": "/data/{}",
    "hostname": "host{}.example.com",
    "integer": "{}",
    "ipv4": "192.0.2.{}",
    "ipv4interface": "192.0.2.{}/24",
    "ipv4network": "192.0.2.{}/32",
    "ipv6": "2001:db8::{}",
    "ipv6interface": "2001:db8::{}/64",
    "ipv6network": "2001:db8::{}/128",
    "ipvanyaddress": "192.0.2.{}",
    "ipvanyinterface": "192.0.2.{}/24",
    "ipvanynetwork": "192.0.2.{}/32",
    "json-string": "{}",
    "name-email": "Person <person{}@example.com>",
    "number": "{}.5",
    "path": "/data/{}",
    "regex": "x{}",
    "time": "09:3{}:00Z",
    "uri": "https://example.com/{}",
    "uuid": "0197f2a4-5c1e-7d3b-8a6f-0123456789a{}",
    **{f"uuid{n}": f"0197f2a4-5c1e-{n}d3b-8a6f-0123456789a{{}}" for n in range(1, 9)},
}
#: Formats that any text has.
_FREE = (None, "password")
#: Tried for a pattern, the likely ones first.
_TRIED = ("EUR", "JP", "ABC-123", "abc-123", "A1", "abc", "1234567890", "12.50", "0", "a1b2c3d4")


class NoExample(Exception):
    """No value could be found for a schema, for example for a rare pattern."""


class Recursive(NoExample):
    """A schema contains itself where nothing ends it."""


def example_of(schema: Schema, find: Callable[[str], Any]) -> Any:
    """Return a JSON value that fits a schema of the document.

    Args:
        schema: in draft-07's keywords.
        find: returns the target of a `$ref`.

    Raises:
        NoExample: no value was found. `Field(examples=[...])` in the event's class gives one.
    """
    return _Maker(find).make(schema, name="text", index=1)


class _Maker:
    """Makes one value. `index` makes the items of a list differ."""

    def __init__(self, find: Callable[[str], Any]) -> None:
        self._find = find
        self._open: list[str] = []

    def make(self, schema: Any, *, name: str, index: int) -> Any:
        if schema is False:
            raise NoExample(f"{name} allows no value.")
        if schema is True or not schema:
            return name
        if "$ref" in schema:
            return self._referenced(schema["$ref"], name, index)
        if schema.get("examples"):
            return schema["examples"][(index - 1) % len(schema["examples"])]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][(index - 1) % len(schema["enum"])]
        if union := schema.get("anyOf") or schema.get("oneOf"):
            return self._alternative(union, name, index)
        if "allOf" in schema:
            return self._merged(schema["allOf"], name, index)
        return self._typed(schema, name, index)

    def _referenced(self, pointer: str, name: str, index: int) -> Any:
        if pointer in self._open:
            raise Recursive(f"{pointer} contains itself.")
        self._open.append(pointer)
        try:
            return self.make(self._find(pointer), name=name, index=index)
        finally:
            self._open.pop()

    def _alternative(self, union: list[Any], name: str, index: int) -> Any:
        """Return the first alternative that has a value; null last."""
        reason: NoExample | None = None
        for one in sorted(union, key=_is_null):
            try:
                return self.make(one, name=name, index=index)
            except NoExample as error:
                reason = error
        raise reason or NoExample(f"{name} has no alternative.")

    def _merged(self, parts: list[Any], name: str, index: int) -> Any:
        made = [self.make(one, name=name, index=index) for one in parts]
        if all(isinstance(one, dict) for one in made):
            return {key: value for one in made for key, value in one.items()}
        return made[0]

    def _typed(self, schema: Schema, name: str, index: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind == "object":
            return dict(self._members(schema, index))
        if kind == "array":
            return list(self._items(schema, name))
        if kind in ("integer", "number"):
            return _number(schema, index, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return _text(schema, name, index)

    def _members(self, schema: Schema, index: int) -> Iterator[tuple[str, Any]]:
        properties = schema.get("properties", {})
        for name, one in properties.items():
            try:
                yield name, self.make(one, name=name, index=index)
            except Recursive:
                if name in schema.get("required", ()):
                    raise
        others = [*schema.get("patternProperties", {}).items()]
        if isinstance(schema.get("additionalProperties"), Mapping) and not properties:
            others.append((None, schema["additionalProperties"]))
        for pattern, one in others:
            named = {"pattern": pattern} if pattern else schema.get("propertyNames", {})
            key = self.make({"type": "string", **named}, name="key", index=1)
            yield key, self.make(one, name="value", index=index)

    def _items(self, schema: Schema, name: str) -> Iterator[Any]:
        """Yield the fixed items, then as many as must be, and one if one may be."""
        items = schema.get("items", True)
        fixed = items if isinstance(items, list) else []
        rest = schema.get("additionalItems", True) if fixed else items
        for number, one in enumerate(fixed, 1):
            yield self.make(one, name=name, index=number)
        least = max(schema.get("minItems", 0), 0 if fixed else 1)
        for number in range(len(fixed), min(least, schema.get("maxItems", least))):
            try:
                yield self.make(rest, name=name, index=number + 1)
            except Recursive:
                if number < schema.get("minItems", 0):
                    raise
                return


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _number(schema: Schema, index: int, *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1)
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    above = "exclusiveMinimum" in schema or lowest < index
    value = (lowest // step + (index if above else 0)) * step
    value += step if value < lowest else 0
    highest = schema.get("maximum", schema.get("exclusiveMaximum", value + 1))
    if value > highest or (value == highest and "exclusiveMaximum" in schema):
        if whole or lowest > highest:
            raise NoExample(f"No number between {lowest} and {highest} was found.")
        value = (lowest + highest) / 2
    return int(value) if whole else value


def _text(schema: Schema, name: str, index: int) -> str:
    form = format_of(schema)
    if form in _FORMATS:
        value = _FORMATS[form].format(index % 10)
    elif form in _FREE:
        value = name if index == 1 else f"{name} {index % 10}"
        value = value.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    else:
        raise NoExample(f"No text of the format {form} is known.")
    pattern = schema.get("pattern")
    if pattern is None:
        return value
    return next(_fitting(pattern, (value, *_TRIED), schema))


def _fitting(pattern: str, tried: tuple[str, ...], schema: Schema) -> Iterator[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
    try:
        known = re.compile(pattern)
    except re.error:  # pydantic's own engine supports more, such as \p{L}
        raise NoExample(f"Python cannot read the pattern {pattern}.") from None
    for one in tried:
        if least <= len(one) <= most and known.search(one):
            yield one
    raise NoExample(f"No text for the pattern {pattern} was found.")
