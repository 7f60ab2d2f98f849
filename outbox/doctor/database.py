"""Findings about the database: migrations, writes, settings, locks, transactions and vacuum."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from django.db import connections, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.formatting import migrate_command
from outbox.models import Heartbeat
from outbox.schema import first_unapplied

from .findings import Finding, error, facts_of, ok, warning

_PART, _MIGRATIONS = "database", "migrations"
_SLOW_SECONDS = 1.0
#: Size of the row that is stored: a small one may fit into a page that a full disk already has.
_ROW_BYTES = 8192


def examine_migrations(*, using: str) -> Iterator[Finding]:
    """Find a missing migration, which explains why other parts cannot be examined."""
    if missing := first_unapplied(using):
        yield error(
            _MIGRATIONS,
            _("The database %(alias)s lacks migrations of the outbox, from %(missing)s on.")
            % {"alias": using, "missing": missing},
            _("Run `manage.py %(migrate)s`.") % {"migrate": migrate_command(using)},
        )


def examine(*, using: str) -> Iterator[Finding]:
    """Examine a write, its settings, and statements that wait for locks."""
    yield _write(using=using)
    if connections[using].vendor == "sqlite":
        yield from _of_sqlite(using=using)
    elif connections[using].vendor == "postgresql":
        yield from _of_postgresql(using=using)


def _write(*, using: str) -> Finding:
    """Store a row. A full disk refuses it; a locked or read-only database, too."""
    began = time.monotonic()
    try:
        with transaction.atomic(using=using):
            _store_and_delete_a_row(using=using)
    except Exception as caught:  # the other findings are needed, too
        return error(
            _PART,
            _("A row could not be stored: %(name)s: %(caught)s.") % facts_of(caught),
            _("Free space on its disk, end what blocks it, or allow writes, as the error says."),
        )
    took = time.monotonic() - began
    if took > _SLOW_SECONDS:
        return warning(
            _PART,
            _("A write of one row took %(took)s s.") % {"took": f"{took:.1f}"},
            _("Find the long transaction that blocks it. SQLite has one writer at a time."),
        )
    return ok(_PART, _("Writes do not wait (%(took)s ms).") % {"took": f"{took * 1000:.0f}"})


def _store_and_delete_a_row(*, using: str) -> None:
    if connections[using].vendor == "postgresql":
        # The commit would wait for ever for a lost synchronous standby.
        _value("SELECT set_config('synchronous_commit', 'local', true)", using=using)
    now = clock.now(using=using)
    row = Heartbeat.objects.using(using).create(
        kind=Heartbeat.Kind.CANARY,
        name=f"doctor:{uuid4().hex}",
        queues=[secrets.token_hex(_ROW_BYTES // 2)],  # random, so that it is not compressed
        started_at=now,
        seen_at=now,
    )
    row.delete()


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
        yield ok(_PART, _without_long(using=using))


def _without_long(*, using: str) -> str:
    [(hidden, role)] = _rows(_HIDDEN, using=using)
    if not hidden:
        return _("No transaction is open for more than 5 minutes.")
    text = _(
        "No transaction that this role sees is open for more than 5 minutes. Hidden sessions of "
        "other roles: %(hidden)s. To see them: GRANT pg_read_all_stats TO %(role)s."
    )
    return text % {"hidden": f"{hidden:,}", "role": role}


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

#: Sessions of which a role without the rights of pg_monitor sees no transaction.
_HIDDEN = """
SELECT count(*), quote_ident(current_user) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND usesysid IS NOT NULL AND query = '<insufficient privilege>'"""

_LEVEL_AND_WAITING = """
SELECT current_setting('transaction_isolation'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
AND now() - query_start > interval '1 second'"""
