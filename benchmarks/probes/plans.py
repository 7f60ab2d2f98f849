"""How some work reads the big tables: how many rows, and which statements read all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_SCAN = re.compile(r"Seq Scan on (outbox_event|outbox_delivery)\b")
_PLANNED = ("SELECT", "UPDATE", "DELETE", "WITH")
_ROWS_READ = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables
WHERE relname IN ('outbox_event', 'outbox_delivery')
"""

Work = Callable[[], object]


def rows_read(work: Work) -> int:
    """Do some work; return how many events and deliveries the database looked at for it."""
    before = _rows_read()
    work()
    return _rows_read() - before


def scans(work: Work) -> list[str]:
    """Do some work; return its statements whose plan reads all events, or all deliveries."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        work()
    trips = [query["sql"] for query in captured.captured_queries]
    statements = [sql.strip() for trip in trips for sql in trip.split(";\n")]  # some go together
    return [sql for sql in statements if sql.startswith(_PLANNED) and _SCAN.search(_plan(sql))]


def _plan(sql: str) -> str:
    return "\n".join(row[0] for row in _execute(f"EXPLAIN {sql}"))


def _rows_read() -> int:
    _execute("SELECT pg_stat_force_next_flush()")  # otherwise this session reports once a second
    return int(_execute(_ROWS_READ)[0][0])


def _execute(statement: str) -> list[tuple[Any, ...]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
