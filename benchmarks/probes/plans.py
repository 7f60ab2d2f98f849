"""The plans of the queries of some work: which of them read a big table from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable

_SCAN = re.compile(r"Seq Scan on (outbox_event|outbox_delivery)\b")
_PLANNED = ("SELECT", "UPDATE", "DELETE", "WITH")


def scans(work: Callable[[], object]) -> list[str]:
    """Do some work; return its statements that read all events, or all deliveries."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        work()
    statements = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in statements if sql.startswith(_PLANNED) and _SCAN.search(_plan(sql))]


def _plan(sql: str) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor.fetchall())
