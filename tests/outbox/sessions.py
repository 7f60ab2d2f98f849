"""Other sessions of PostgreSQL: another database, another transaction, another role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from django.db import connection, connections, transaction


@contextmanager
def used(url: str) -> Iterator[None]:
    """Let all new connections lead to another database of the same server within the block."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = url.rpartition("/")[2]
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def in_another_transaction(*statements: str) -> Iterator[None]:
    """Execute statements in a transaction of another connection, open until the block ends."""
    other = connections["default"].copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def acting_as_visitor(*grants: str) -> Iterator[str]:
    """Act as a new role that owns nothing, in a transaction that is rolled back."""
    role = f"visitor_{uuid4().hex[:12]}"
    with transaction.atomic():
        rows(f"CREATE ROLE {role}")
        for grant in grants:
            rows(grant.format(role=role))
        rows(f"SET LOCAL ROLE {role}")
        yield role
        rows("RESET ROLE")
        transaction.set_rollback(True)
