"""One moment of the database, for reads that must fit together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from outbox import databases


@contextmanager
def snapshot(*, using: str | None = None) -> Iterator[None]:
    """Let all reads within see the database as it is now, and hold nobody up.

    PostgreSQL: REPEATABLE READ READ ONLY. SQLite: a deferred transaction, which in WAL mode reads
    beside the writer. Within a TestCase the test's own transaction has to do.

    Raises:
        RuntimeError: a transaction is open; it may have its snapshot already.
    """
    using = using or databases.alias()
    connection: Any = connections[using]
    if connection.in_atomic_block:
        with transaction.atomic(using=using, durable=True):
            yield
        return
    with _mode(connection, "DEFERRED"), transaction.atomic(using=using, durable=True):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # The snapshot is taken by the first read.
            cursor.execute("SELECT count(*) FROM django_migrations")
        yield


@contextmanager
def _mode(connection: Any, mode: str) -> Iterator[None]:
    """Let SQLite begin in this mode; other databases know none."""
    connection.ensure_connection()
    before = getattr(connection, "transaction_mode", None)
    connection.transaction_mode = mode
    try:
        yield
    finally:
        connection.transaction_mode = before
