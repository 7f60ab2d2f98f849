"""Findings about the database: its settings, locks, long transactions and vacuum."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction

from outbox.models import Operation

from .findings import Finding, error, ok, warning

_PART = "database"
_SLOW_SECONDS = 1.0


def examine(*, using: str) -> Iterator[Finding]:
    """Examine its settings, and statements that wait for locks."""
    yield _write_lock(using=using)
    if connections[using].vendor == "sqlite":
        yield from _of_sqlite(using=using)
    elif connections[using].vendor == "postgresql":
        yield from _of_postgresql(using=using)


def _write_lock(*, using: str) -> Finding:
    began = time.monotonic()
    with transaction.atomic(using=using):
        Operation.objects.using(using).filter(pk=-1).update(rate=None)
    took = time.monotonic() - began
    if took > _SLOW_SECONDS:
        return warning(
            _PART,
            f"A write of one row took {took:.1f} s.",
            "Find the long transaction that blocks it. SQLite has one writer at a time.",
        )
    return ok(_PART, f"Writes do not wait ({took * 1000:.0f} ms).")


def _of_sqlite(*, using: str) -> Iterator[Finding]:
    mode = str(_value("PRAGMA journal_mode", using=using)).lower()
    if mode == "wal":
        yield ok(_PART, "Its journal is a WAL: readers and the writer do not block each other.")
    elif mode != "memory":
        yield error(
            _PART,
            f"Its journal mode is {mode}: each reader blocks the writer.",
            'Set OPTIONS["init_command"] = "PRAGMA journal_mode=WAL;".',
        )
    if int(_value("PRAGMA synchronous", using=using)) < 2:
        yield warning(
            _PART,
            "A power failure may lose the last commits (synchronous is below FULL).",
            'Set OPTIONS["init_command"] = "PRAGMA synchronous=FULL;".',
        )


def _of_postgresql(*, using: str) -> Iterator[Finding]:
    yield _isolation(using=using)
    waiting = _value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock' AND now() - query_start > interval '1 second'",
        using=using,
    )
    if waiting:
        yield warning(
            _PART,
            "1 statement has waited for a lock for more than a second."
            if waiting == 1
            else f"{waiting:,} statements have waited for a lock for more than a second.",
            "Find the holder: SELECT * FROM pg_stat_activity, pg_blocking_pids(pid).",
        )
    yield from _long_transactions(using=using)
    yield from _unvacuumed(using=using)


def _isolation(*, using: str) -> Finding:
    with transaction.atomic(using=using):  # Django sets the level of its settings at BEGIN
        level = str(_value("SHOW transaction_isolation", using=using))
    if level == "read committed":
        return ok(_PART, "Its transactions are READ COMMITTED.")
    return error(
        _PART,
        f"Its transactions are {level.upper()}, so the outbox reads old snapshots under its locks.",
        "Set default_transaction_isolation of the server, the database and the role to 'read "
        'committed\', and remove OPTIONS["isolation_level"].',
    )


def _long_transactions(*, using: str) -> Iterator[Finding]:
    long = _rows(
        "SELECT pid, state, round(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND xact_start < now() - interval '5 minutes' ORDER BY xact_start LIMIT 3",
        using=using,
    )
    for pid, state, seconds in long:
        yield warning(
            _PART,
            f"The transaction of process {pid} ({state}) is open for {seconds:.0f} s. Rows "
            "that were deleted since cannot be vacuumed.",
            f"Find its program. SELECT pg_terminate_backend({pid}) ends it.",
        )
    if not long:
        yield ok(_PART, "No transaction is open for more than 5 minutes.")


def _unvacuumed(*, using: str) -> Iterator[Finding]:
    tables = _rows(
        "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relname LIKE "
        "'outbox\\_%' AND n_dead_tup > 10000 AND n_dead_tup > n_live_tup / 2",
        using=using,
    )
    for table, dead, live in tables:
        yield warning(
            _PART,
            f"{table} has {dead:,} dead rows and {live:,} live rows.",
            f"Run VACUUM ANALYZE {table}. Then find out why autovacuum did not.",
        )
    if not tables:
        yield ok(_PART, "Its tables are vacuumed.")


def _value(statement: str, *, using: str) -> Any:
    return _rows(statement, using=using)[0][0]


def _rows(statement: str, *, using: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
