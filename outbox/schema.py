"""Does what a producer writes fit what a handler reads? JSON Schema against JSON Schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def written_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of what is stored when a `model` is emitted."""
    return model.model_json_schema(mode="serialization", by_alias=False)
