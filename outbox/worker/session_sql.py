"""Recognize SQL statements that set state of a database session."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.deliveries.beside import PARTS, text_of


class Scope(IntEnum):
    """How long the state set by a statement lasts; NONE: it sets none."""

    NONE = 0
    TRANSACTION = 1
    SESSION = 2


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
#: Characters. Longer texts, such as those of large bulk inserts, would fill the cache's memory.
_LONGEST_CACHED = 4000
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
    # By identity: a parameter may be an array, whose `==` is no truth value.
    ends_true = isinstance(params, (list, tuple)) and bool(params) and params[-1] is True
    if len(text) > _LONGEST_CACHED:
        return _scope_of_text(text, ends_true)
    return _cached_scope(text, ends_true)


def _scope_of_text(text: str, ends_true: bool) -> Scope:
    """Return the scope of a text; `ends_true`: its last parameter is true."""
    statements = [text.lower()]
    if any(sign in text for sign in (";", "--", "/*")):
        statements = PARTS.sub(" ", statements[0]).split(";")
    ends_true = ends_true and len(statements) == 1
    return max((_scope(one, ends_true) for one in statements), default=Scope.NONE)


#: A handler sends the same few texts for each delivery.
_cached_scope = lru_cache(maxsize=1000)(_scope_of_text)


def _scope(statement: str, ends_true: bool) -> Scope:
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
    is_local |= calls == 1 and ends_true
    return Scope.TRANSACTION if is_local else Scope.SESSION
