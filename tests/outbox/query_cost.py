"""Measure how much of the big tables a query really reads, on both databases.

On PostgreSQL EXPLAIN ANALYZE has the number of rows. SQLite has no such command. There the
instructions of its virtual machine are counted; each row that is read costs a few.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

BIG = ("outbox_event", "outbox_delivery", "outbox_settlement")
_EVERY = 100


def queries(client: Client, url: str) -> list[str]:
    """Return the SQL statements that a page executes."""
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
    assert answer.status_code == 200, url
    return [query["sql"] for query in captured.captured_queries]


def rows_read(sql: str) -> int:
    """Return the rows of the big tables that a query reads; on SQLite, its instructions."""
    if not sql.startswith("SELECT") or not any(f'"{table}"' in sql for table in BIG):
        return 0
    return _instructions(sql) if connection.vendor == "sqlite" else sum(_rows(_plan(sql)))


def _plan(sql: str) -> Any:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL random_page_cost = 1.1")  # all pages are in memory
        # The planner chooses these methods for small tables only.
        for method in ("seqscan", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{method} = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        plan = cursor.fetchone()[0]
    return (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]


def _rows(node: dict[str, Any]) -> Iterator[int]:
    for part in node.get("Plans", ()):
        yield from _rows(part)
    if node.get("Relation Name", "") in BIG:
        counts = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        yield int(sum(node.get(count, 0) for count in counts) * node["Actual Loops"])


def _instructions(sql: str) -> int:
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += _EVERY
        return 0

    connection.connection.set_progress_handler(count, _EVERY)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.fetchall()
    finally:
        connection.connection.set_progress_handler(None, 0)
    return counted
