"""JSON Schemas of contracts: of an event's stored payload, and of a handler's parameter."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

#: Raised for a type without a JSON form, and for a name that cannot be resolved.
NO_SCHEMA = (PydanticUserError, NameError)

#: Keywords whose value maps names to schemas. A name in it is no keyword.
NAMED = ("properties", "$defs", "patternProperties")
#: Keywords that may change without a new version.
_UNRECORDED = ("description", "default", "examples")


# The checks ask for the schema of an event for each of its handlers. Do not change the answers.
@lru_cache(maxsize=1000)
def written_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of the payload that is stored when a `model` is emitted.

    Raises one of `NO_SCHEMA` for a type without a JSON form or with an unknown name.
    """
    made = model.model_json_schema(
        mode="serialization", by_alias=False, schema_generator=ContractSchema
    )
    return _with_properties(made)


@lru_cache(maxsize=1000)
def recorded_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema to record for later releases: it fits all stored events of the version.

    It has no descriptions, which may change, and does not forbid further fields, which may follow.
    A field with a default is not required, since events from before the field lack it. Raises the
    same as `written_schema`.
    """
    made = model.model_json_schema(
        mode="serialization", by_alias=False, schema_generator=RecordedSchema
    )
    recorded: dict[str, Any] = _open(_with_properties(made), without=_UNRECORDED)
    return recorded


def published_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema for other systems: the recorded one with descriptions and examples.

    Raises the same as `written_schema`.
    """
    made = model.model_json_schema(
        mode="serialization", by_alias=False, schema_generator=RecordedSchema
    )
    published: dict[str, Any] = _open(_with_properties(made), without=())
    return published


def read_schema(kind: Any, *, by_alias: bool = True) -> dict[str, Any]:
    """Return the JSON Schema of a parameter of type `kind`. Raises as `written_schema`.

    Its properties have the aliases of fields; with `by_alias=False` their names.
    """
    return TypeAdapter(kind).json_schema(
        by_alias=by_alias, mode="validation", schema_generator=ContractSchema
    )


class ContractSchema(GenerateJsonSchema):
    """Pydantic's JSON Schema with three corrections."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return True also for stored fields with a default; only TypedDict keys may be missing."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Add the format "decimal", since not every string is a decimal."""
        made = super().decimal_schema(schema)
        for one in made.get("anyOf", [made]):
            if one["type"] == "string":
                one["format"] = "decimal"
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Add the schema of the keys, since not every string is a key of a `dict[int, ...]`."""
        made = super().dict_schema(schema)
        if "patternProperties" not in made and "keys_schema" in schema:
            made["propertyNames"] = _as_key(self.generate_inner(schema["keys_schema"]))
        return made


class RecordedSchema(ContractSchema):
    """The JSON Schema of all stored events of a version, old and new."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return False for a field with a default: older events may lack it."""
        return GenerateJsonSchema.field_is_required(self, field, total)


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a model that contains itself with its properties at the top."""
    if "$ref" not in schema:
        return schema
    defs = schema["$defs"]
    return {**defs[schema["$ref"].rpartition("/")[2]], "$defs": defs}


def _open(schema: Any, *, without: Collection[str]) -> Any:
    """Allow further fields, and drop keywords, but no property that is called "description"."""
    if isinstance(schema, list):
        return [_open(one, without=without) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: _open(one, without=without) for key, one in part.items()}
        if name in NAMED
        else _open(part, without=without)
        for name, part in schema.items()
        if name not in without and (name, part) != ("additionalProperties", False)
    }


def _as_key(schema: JsonSchemaValue) -> JsonSchemaValue:
    if "anyOf" in schema:
        return {"anyOf": [_as_key(one) for one in schema["anyOf"]]}
    if schema.get("type") in ("integer", "number", "boolean"):
        kept = {name: schema[name] for name in ("sensitive",) if name in schema}
        return {"type": "string", "format": schema["type"], **kept}
    return schema or {"type": "string"}
