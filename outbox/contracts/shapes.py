"""A contract as JSON Schema: what an event stores, and what a handler's parameter accepts."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

#: What these raise for a type without a JSON form, and for a name that cannot be found.
NOT_DESCRIBED = (PydanticUserError, NameError)


def written_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of what is stored when a `model` is emitted.

    Raises one of `NOT_DESCRIBED` for a type that has none or cannot be resolved.
    """
    return model.model_json_schema(
        mode="serialization", by_alias=False, schema_generator=ContractSchema
    )


def recorded_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return what is recorded of an event for later releases: what all its stored events have.

    Without prose, which may change, and without the refusal of further fields: there will be some.
    What has a default is not required, since events that were
    told before the field was there lack it. Raises the same.
    """
    made = model.model_json_schema(
        mode="serialization", by_alias=False, schema_generator=RecordedSchema
    )
    recorded: dict[str, Any] = _recorded(made)
    return recorded


def read_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of what a parameter of type `kind` accepts. Raises the same."""
    return TypeAdapter(kind).json_schema(mode="validation", schema_generator=ContractSchema)


class ContractSchema(GenerateJsonSchema):
    """Pydantic's JSON Schema, and three things that it leaves out."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def field_is_required(self, field: Any, total: bool) -> bool:
        """What has a default is stored like the rest; only TypedDict keys may be missing."""
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """Not every string is a decimal."""
        made = super().decimal_schema(schema)
        for one in made.get("anyOf", [made]):
            if one["type"] == "string":
                one["format"] = "decimal"
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Not every string is a key of a `dict[int, ...]`."""
        made = super().dict_schema(schema)
        if "patternProperties" not in made and "keys_schema" in schema:
            made["propertyNames"] = _as_key(self.generate_inner(schema["keys_schema"]))
        return made


class RecordedSchema(ContractSchema):
    """What has been written since the event was first told."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """What has a default may be missing from older events."""
        return GenerateJsonSchema.field_is_required(self, field, total)


def _recorded(schema: Any) -> Any:
    """Drop what is not recorded; a property may itself be called "description"."""
    if isinstance(schema, list):
        return [_recorded(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: _recorded(one) for key, one in part.items()}
        if name in ("properties", "$defs", "patternProperties")
        else _recorded(part)
        for name, part in schema.items()
        if name not in ("description", "default", "examples")
        and (name, part) != ("additionalProperties", False)
    }


def _as_key(schema: JsonSchemaValue) -> JsonSchemaValue:
    if "anyOf" in schema:
        return {"anyOf": [_as_key(one) for one in schema["anyOf"]]}
    if schema.get("type") in ("integer", "number", "boolean"):
        return {"type": "string", "format": schema["type"]}
    return schema or {"type": "string"}
