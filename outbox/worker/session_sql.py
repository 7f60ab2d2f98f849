"""Recognize SQL statements that set state of a database session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


class Scope(IntEnum):
    """How long the state set by a statement lasts; NONE: it sets none."""

    NONE = 0
    TRANSACTION = 1
    SESSION = 2


# Comments, strings and quoted names. The latter two may contain comment signs and semicolons.
_PARTS = re.compile(
    r"""--[^\n]* | /\*.*?\*/
    | (?<!\w)e'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$""",
    re.DOTALL | re.VERBOSE,
)
_SETTING = re.compile(
    r"""\s*(?:
      (?:set|reset|discard|listen|load|attach|do)\b(?!\s+constraints)
    | prepare\b(?!\s+transaction)
    | create\s+(?:or\s+replace\s+)?(?:local\s+|global\s+)?temp
    | declare\b.*\bwith\s+hold\b
    | pragma\s+[\w.]+\s*=
    )""",
    re.DOTALL | re.VERBOSE,
)
_INTO_TEMP = re.compile(r"\binto\s+(?:local\s+|global\s+)?temp")
_OF_THE_TRANSACTION = re.compile(r"\s*set\s+(?:local|transaction)\b")
_LOCK = "advisory_lock"  # not pg_advisory_xact_lock()
_CONFIG = "set_config"
_LOCAL_CONFIG = re.compile(r"set_config\s*\([^()]*,\s*true\s*\)")


def scope_of(sql: object, params: Any, connection: BaseDatabaseWrapper) -> Scope:
    """Return how long the state set by an argument of `cursor.execute()` lasts.

    SQL whose text cannot be read counts as `SESSION`. State set inside a function or procedure of
    the database is not detected, except by PostgreSQL's own functions.
    """
    text = text_of(sql, connection)
    if text is None:
        return Scope.SESSION
    # The backend of django-tenants is setting the schema of its present tenant. It sets it again
    # for each new tenant and after each rollback, so no other delivery inherits it.
    if getattr(connection, "_setting_search_path", False):
        return Scope.NONE
    statements = _statements(text.lower())
    given = list(params) if isinstance(params, (list, tuple)) and len(statements) == 1 else []
    return max((_scope(one, given) for one in statements), default=Scope.NONE)


def text_of(sql: object, connection: BaseDatabaseWrapper) -> str | None:
    """Return the text of an argument of `cursor.execute()`; None if it cannot be read.

    Django passes it to the driver, so it may also be `bytes` or a `Composable` of psycopg.
    """
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    try:
        return str(sql.as_string(connection.connection))  # type: ignore[attr-defined]  # a driver's
    except Exception:  # the driver raises its own error
        return None


def _statements(text: str) -> Sequence[str]:
    """Return the statements of a text, without comments and strings if there may be several."""
    if not any(sign in text for sign in (";", "--", "/*")):
        return [text]
    return _PARTS.sub(" ", text).split(";")


def _scope(statement: str, params: list[Any]) -> Scope:
    if _OF_THE_TRANSACTION.match(statement):
        return Scope.TRANSACTION
    if _SETTING.match(statement) or _LOCK in statement:
        return Scope.SESSION
    if "temp" in statement and _INTO_TEMP.search(statement):
        return Scope.SESSION
    calls = statement.count(_CONFIG)
    if not calls:
        return Scope.NONE
    is_local = len(_LOCAL_CONFIG.findall(statement)) == calls
    is_local |= calls == 1 and params[-1:] == [True]
    return Scope.TRANSACTION if is_local else Scope.SESSION
