"""Make a schema of an AsyncAPI document complete in itself, in the keywords that are compared.

The document's references become `$defs`, a list of `items` becomes `prefixItems`, several objects
in an `allOf` become one, and a missing `type` is added where the other keywords imply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from outbox.contracts.schema_parts import Schema

from .schemas import NAMED, NESTED

_DEEPEST = 50


class BadReference(ValueError):
    """A reference leads nowhere, or out of the document."""


def follow(document: Mapping[str, Any], node: Any) -> Any:
    """Return the target of an object that may be a reference.

    Raises `BadReference`.
    """
    for _ in range(_DEEPEST):
        if not isinstance(node, Mapping) or "$ref" not in node:
            return node
        node = _target(document, str(node["$ref"]))
    raise BadReference("its references form a circle.")


def bundled(document: Mapping[str, Any], schema: Any) -> Schema | bool:
    """Return a schema with its definitions as `$defs`. Raises `BadReference`."""
    bundle = _Bundle(document)
    made = bundle.convert(schema)
    if isinstance(made, bool) or not bundle.defs:
        return made  # type: ignore[no-any-return]  # a schema is a mapping or a boolean
    return {**made, "$defs": bundle.defs}


class _Bundle:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.defs: dict[str, Any] = {}

    def convert(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self.convert(one) for one in schema]
        if not isinstance(schema, Mapping):
            return schema
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]))
        whole = self._without_all_of(schema)
        made = {name: self._nested(name, value) for name, value in whole.items()}
        if isinstance(made.get("items"), list):
            made["prefixItems"] = made.pop("items")
            made["items"] = made.pop("additionalItems", True)
        return {**_implied(made), **made}

    def _nested(self, name: str, value: Any) -> Any:
        if name in NAMED and isinstance(value, Mapping):
            return {key: self.convert(one) for key, one in value.items()}
        return self.convert(value) if name in NESTED else value

    def _reference(self, pointer: str) -> dict[str, str]:
        name = pointer.removeprefix("#/").replace("/", ":")
        if name not in self.defs:
            self.defs[name] = True  # for a schema that contains itself
            self.defs[name] = self.convert(_target(self._document, pointer))
        return {"$ref": f"#/$defs/{name}"}

    def _without_all_of(self, schema: Schema, depth: int = 0) -> Schema:
        """Return a schema in which the objects of an `allOf` are one."""
        parts = schema.get("allOf", ())
        rest = {name: value for name, value in schema.items() if name != "allOf"}
        if not parts or (len(parts) == 1 and not rest.keys() & {"type", "properties"}):
            return schema
        if depth > _DEEPEST:
            raise BadReference("a schema contains itself in its allOf.")
        found = [
            self._without_all_of(follow(self._document, one), depth + 1) for one in (*parts, rest)
        ]
        return _joined(found)


def _joined(parts: list[Schema]) -> Schema:
    made: dict[str, Any] = {}
    for one in parts:
        properties = {**made.get("properties", {}), **one.get("properties", {})}
        required = [*made.get("required", ()), *one.get("required", ())]
        made |= one
        made |= {"properties": properties} if properties else {}
        made |= {"required": list(dict.fromkeys(required))} if required else {}
    return made


def _implied(schema: Schema) -> dict[str, str]:
    if "properties" in schema or "patternProperties" in schema:
        return {"type": "object"}
    return {"type": "array"} if "items" in schema else {}


def _target(document: Mapping[str, Any], pointer: str) -> Any:
    if not pointer.startswith("#"):
        raise BadReference(f"it refers to {pointer}. Bundle the document into one file first.")
    node: Any = document
    for part in pointer.removeprefix("#").strip("/").split("/"):
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            raise BadReference(f"it refers to {pointer}, which it does not contain.")
    return node
