"""Recognize SQL statements that set state of a database session."""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_SETTING = re.compile(
    r"\s*(?:(?:set|reset|discard|listen|load)\b(?!\s+constraints)"
    r"|create\s+(?:local\s+|global\s+)?temp|pragma\s+\w+\s*=)"
)
_FUNCTIONS = ("set_config", "advisory_lock")  # not pg_advisory_xact_lock()
_OF_THE_TRANSACTION = re.compile(r"\s*set\s+(?:local|transaction)\b")


def text_of(sql: object, connection: BaseDatabaseWrapper) -> str | None:
    """Return the text of what was passed to `cursor.execute()`; None if it cannot be read.

    Django passes it on to the driver, so it may also be `bytes` or a `Composable` of psycopg.
    """
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    try:
        return str(sql.as_string(connection.connection))  # type: ignore[attr-defined]  # a driver's
    except Exception:  # what the statement is worth, the driver decides
        return None


def sets_state(text: str) -> bool:
    """Return whether a statement in lower case sets state of its session."""
    return bool(_SETTING.match(text)) or any(function in text for function in _FUNCTIONS)


def ends_with_transaction(text: str, params: Any) -> bool:
    """Return whether what a statement in lower case sets ends with its transaction."""
    if _OF_THE_TRANSACTION.match(text):
        return True
    if "set_config" not in text:
        return False
    given = list(params) if isinstance(params, (list, tuple)) else []
    return text.rstrip(" ;").endswith("true)") or given[-1:] == [True]
