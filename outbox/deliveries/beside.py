"""Refuse writes to other databases while a transaction with a receipt is open.

Such a write commits by itself: it stays if the receipt rolls back, and the retry repeats it. Only
projects with `OUTBOX["DATABASES"]` are watched. Statements of other threads are not seen, nor those
that a function of the database runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.db import connections

from outbox import databases
from outbox.databases import WrittenBesideReceipt

_COMMENTS = r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*"
_VERBS = "insert|update|delete|merge|replace|truncate|copy|create|alter|drop"
_WRITE = re.compile(
    rf"{_COMMENTS}(?:(?:{_VERBS})\b|with\b.*\b(?:insert|update|delete|merge)\b)",
    re.DOTALL | re.IGNORECASE,
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
    text = sql.decode(errors="replace") if isinstance(sql, bytes) else sql
    if isinstance(text, str) and _WRITE.match(text):
        other = context["connection"].alias
        raise WrittenBesideReceipt(
            f"A handler writes to {other!r}, but its receipt is in {using!r}. The two do not "
            f"commit together. Store an event in {other!r} by a handler with atomic=False, and "
            "write in a handler of that event."
        )
    return execute(sql, params, many, context)
