"""Parts of the statements that relay and workers send all the time, written out as text.

The ORM takes up to ten times as long to make a wide SELECT as it takes to send it and to read its
answer, and psycopg parses each placeholder of the hundreds that a page of deliveries would have. So
numbers stand in these statements as they are, and all else is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connections


def numbers(ids: Iterable[int]) -> str:
    """Return ids for `IN (...)`; of none, what nothing is in.

    Raises ValueError or TypeError for what is no number, as a message from the broker may bring.
    """
    return ", ".join(str(int(one)) for one in ids) or "NULL"


def locking(
    *, using: str, of: tuple[str, ...] = (), skip_locked: bool = False, no_key: bool = False
) -> str:
    """Return the end of a SELECT that locks its rows; nothing on SQLite, which has one writer."""
    connection = connections[using]
    if not connection.features.has_select_for_update:
        return ""
    return " " + connection.ops.for_update_sql(of=of, skip_locked=skip_locked, no_key=no_key)


def moment(at: datetime, *, using: str) -> Any:
    """Return a moment as a parameter."""
    return connections[using].ops.adapt_datetimefield_value(at)


def execute(statement: str, *values: Any, using: str) -> int:
    """Run a statement that returns no rows; return how many it touched."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.rowcount)
