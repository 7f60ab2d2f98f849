"""A project with row-level security: the hooks of docs/how-to/serve-tenants.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from django.db import DatabaseError, connection

current: ContextVar[str | None] = ContextVar("tests_row_tenant", default=None)


def capture() -> str | None:
    return current.get()


@contextmanager
def restore(tenant: str | None) -> Iterator[None]:
    before = current.get()
    reset = current.set(tenant)
    try:
        set_variable(tenant)
        yield
    finally:
        current.reset(reset)
        with suppress(DatabaseError):  # of a transaction that has failed
            set_variable(before)


def set_variable(tenant: str | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('app.tenant', %s, %s)", [tenant or "", connection.in_atomic_block]
        )
