"""Findings about the database: its settings, locks, long transactions and vacuum."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

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
            _("A write of one row took %(took)s s.") % {"took": f"{took:.1f}"},
            _("Find the long transaction that blocks it. SQLite has one writer at a time."),
        )
    return ok(_PART, _("Writes do not wait (%(took)s ms).") % {"took": f"{took * 1000:.0f}"})


def _of_sqlite(*, using: str) -> Iterator[Finding]:
    mode = str(_value("PRAGMA journal_mode", using=using)).lower()
    if mode == "wal":
        yield ok(_PART, _("Its journal is a WAL: readers and the writer do not block each other."))
    elif mode != "memory":
        yield error(
            _PART,
            _("Its journal mode is %(mode)s: each reader blocks the writer.") % {"mode": mode},
            _('Set OPTIONS["init_command"] = "PRAGMA journal_mode=WAL;".'),
        )
    if int(_value("PRAGMA synchronous", using=using)) < 2:
        yield warning(
            _PART,
            _("A power failure may lose the last commits (synchronous is below FULL)."),
            _('Set OPTIONS["init_command"] = "PRAGMA synchronous=FULL;".'),
        )


def _of_postgresql(*, using: str) -> Iterator[Finding]:
    with transaction.atomic(using=using):  # Django sets the level of its settings at BEGIN
        [(level, waiting)] = _rows(_LEVEL_AND_WAITING, using=using)
    yield _isolation(level)
    if waiting:
        yield warning(
            _PART,
            ngettext(
                "%(waiting)s statement has waited for a lock for more than a second.",
                "%(waiting)s statements have waited for a lock for more than a second.",
                waiting,
            )
            % {"waiting": f"{waiting:,}"},
            _("Find the holder: SELECT * FROM pg_stat_activity, pg_blocking_pids(pid)."),
        )
    yield from _long_transactions(using=using)
    yield from _unvacuumed(using=using)


def _isolation(level: str) -> Finding:
    if level == "read committed":
        return ok(_PART, _("Its transactions are READ COMMITTED."))
    return error(
        _PART,
        _("Its transactions are %(upper)s, so the outbox reads old snapshots under its locks.")
        % {"upper": level.upper()},
        _(
            "Set default_transaction_isolation of the server, the database and "
            "the role to 'read committed', and remove "
            'OPTIONS["isolation_level"].'
        ),
    )


def _long_transactions(*, using: str) -> Iterator[Finding]:
    long = _rows(_LONG, using=using)
    for pid, state, seconds in long:
        yield warning(
            _PART,
            _(
                "The transaction of process %(pid)s (%(state)s) is open for "
                "%(seconds)s s. Rows that were deleted since cannot be vacuumed."
            )
            % {"pid": pid, "state": state, "seconds": f"{seconds:.0f}"},
            _("Find its program. SELECT pg_terminate_backend(%(pid)s) ends it.") % {"pid": pid},
        )
    if not long:
        yield ok(_PART, _("No transaction is open for more than 5 minutes."))


def _unvacuumed(*, using: str) -> Iterator[Finding]:
    tables = _rows(
        "SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables WHERE relname LIKE "
        "'outbox\\_%' AND n_dead_tup > 10000 AND n_dead_tup > n_live_tup / 2",
        using=using,
    )
    for table, dead, live in tables:
        yield warning(
            _PART,
            _("%(table)s has %(dead)s dead rows and %(live)s live rows.")
            % {"table": table, "dead": f"{dead:,}", "live": f"{live:,}"},
            _("Run VACUUM ANALYZE %(table)s. Then find out why autovacuum did not.")
            % {"table": table},
        )
    if not tables:
        yield ok(_PART, _("Its tables are vacuumed."))


def _value(statement: str, *, using: str) -> Any:
    return _rows(statement, using=using)[0][0]


def _rows(statement: str, *, using: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


#: Transactions that are open for long. Other vacuums do not wait for a VACUUM, except a full one.
_LONG = r"""
SELECT pid, state, round(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND xact_start < now() - interval '5 minutes'
AND coalesce(query, '') !~* '^\s*(autovacuum: )?vacuum\M(?!.*\mfull\M)'
ORDER BY xact_start LIMIT 3"""

_LEVEL_AND_WAITING = """
SELECT current_setting('transaction_isolation'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
AND now() - query_start > interval '1 second'"""
