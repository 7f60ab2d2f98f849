"""Refuse writes to other databases while a transaction with a receipt is open.

Such a write commits by itself: it stays if the receipt rolls back, and the retry repeats it. Only
projects with `OUTBOX["DATABASES"]` are watched. Statements of other threads are not seen, nor those
that a function of the database runs, nor COPY by `cursor.copy()` of psycopg.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox import databases
from outbox.databases import WrittenBesideReceipt

_VERBS = "insert|update|delete|merge|replace|truncate|copy|create|alter|drop"
_WRITE = re.compile(
    rf"[\s(]*(?:(?:{_VERBS})\b|with\b.*\b(?:insert|update|delete|merge)\b)", re.DOTALL
)
_ROW_LOCK = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b")
#: Comments, strings and quoted names of a text in lower case. Strings and names may contain
#: comment signs and semicolons.
PARTS = re.compile(
    r"""--[^\n]* | /\*.*?\*/
    | (?<!\w)e'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$""",
    re.DOTALL | re.VERBOSE,
)


@contextmanager
def no_write_beside(using: str) -> Iterator[None]:
    """Raise for a write to, or an `emit()` into, another database than the receipt's.

    Args:
        using: alias of the database of the open transaction with the receipt.

    Raises:
        WrittenBesideReceipt: the block wrote to another database. The statement is not executed.
    """
    if not databases.listed():
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(databases.receipt_in(using))
        for connection in connections.all():  # the block may be the first to use one of them
            if connection.alias != using:
                stack.enter_context(connection.execute_wrapper(partial(_refuse_write, using)))
        yield


def _refuse_write(
    using: str,
    execute: Callable[..., Any],
    sql: object,
    params: Any,
    many: bool,
    context: Any,
) -> Any:
    text = text_of(sql, context["connection"])
    if text is None or _writes(text):
        other = context["connection"].alias
        raise WrittenBesideReceipt(
            f"A handler writes to {other!r}, but its receipt is in {using!r}. The two do not "
            f"commit together. Store an event in {other!r} by a handler with atomic=False, and "
            "write in a handler of that event."
        )
    return execute(sql, params, many, context)


def _writes(text: str) -> bool:
    statements = _ROW_LOCK.sub(" ", PARTS.sub(" ", text.lower())).split(";")
    return any(_WRITE.match(one) for one in statements)


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
