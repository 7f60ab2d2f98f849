"""A snapshot of the database, for reads that must be consistent with each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from outbox import databases


@contextmanager
def snapshot(*, using: str | None = None) -> Iterator[None]:
    """Make all reads in the block see the database as it is now, without blocking writers.

    PostgreSQL: REPEATABLE READ READ ONLY. SQLite: a deferred transaction, which in WAL mode reads
    beside the writer. Within a TestCase: the transaction of the test.

    Raises:
        RuntimeError: a transaction is open, which may have an older snapshot.
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
    """Set the mode in which SQLite begins transactions; other databases ignore it."""
    connection.ensure_connection()
    before = getattr(connection, "transaction_mode", None)
    connection.transaction_mode = mode
    try:
        yield
    finally:
        connection.transaction_mode = before
