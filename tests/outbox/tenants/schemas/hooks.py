"""The hooks of docs/how-to/serve-tenants.md for schemas."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from django.db import connection
from django_tenants.utils import get_public_schema_name, schema_context


def capture() -> str:
    return str(connection.schema_name)


def restore(tenant: str | None) -> AbstractContextManager[Any]:
    made: AbstractContextManager[Any] = schema_context(tenant or get_public_schema_name())
    return made
