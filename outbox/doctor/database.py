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
from outbox.deliveries.statements import Rows, Statement, read_each
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
    found, level = _write(using=using)
    yield found
    if level:
        yield _isolation(level)
    if connections[using].vendor == "sqlite":
        yield from _of_sqlite(using=using)
    elif connections[using].vendor == "postgresql":
        yield from _of_postgresql(using=using)


def _write(*, using: str) -> tuple[Finding, str]:
    """Store a row. A full disk refuses it; a locked or read-only database, too.

    Returns:
        The finding, and the isolation level of its transaction on PostgreSQL, or "".
    """
    began = time.monotonic()
    try:
        with transaction.atomic(using=using):
            level = _store_and_delete_a_row(using=using)
    except Exception as caught:  # the other findings are needed, too
        refused = error(
            _PART,
            _("A row could not be stored: %(name)s: %(caught)s.") % facts_of(caught),
            _("Free space on its disk, end what blocks it, or allow writes, as the error says."),
        )
        return refused, ""
    took = time.monotonic() - began
    if took > _SLOW_SECONDS:
        slow = warning(
            _PART,
            _("A write of one row took %(took)s s.") % {"took": f"{took:.1f}"},
            _("Find the long transaction that blocks it. SQLite has one writer at a time."),
        )
        return slow, level
    text = _("Writes do not wait (%(took)s ms).") % {"took": f"{took * 1000:.0f}"}
    return ok(_PART, text), level


def _store_and_delete_a_row(*, using: str) -> str:
    """Return the isolation level on PostgreSQL, where Django sets that of its settings at BEGIN."""
    now = clock.now(using=using)
    row = Heartbeat.objects.using(using).create(
        kind=Heartbeat.Kind.CANARY,
        name=f"doctor:{uuid4().hex}",
        queues=[secrets.token_hex(_ROW_BYTES // 2)],  # random, so that it is not compressed
        started_at=now,
        seen_at=now,
    )
    if connections[using].vendor != "postgresql":
        row.delete()
        return ""
    # The commit would wait for ever for a lost synchronous standby.
    local = Statement("SELECT set_config('synchronous_commit', 'local', true)")
    delete = Statement(f"DELETE FROM outbox_heartbeat WHERE id = {row.pk:d}")  # noqa: S608  a number
    *_, [(level,)] = read_each(local, delete, Statement(_LEVEL), using=using)
    return str(level)


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
    statements = (Statement(one) for one in (_WAITING, _LONG, _HIDDEN, _DEAD_ROWS))
    [(waiting,)], long, [(hidden, role)], tables = read_each(*statements, using=using)
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
    yield from _long_transactions(long, hidden=hidden, role=role)
    yield from _unvacuumed(tables)


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


def _long_transactions(long: Rows, *, hidden: int, role: str) -> Iterator[Finding]:
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
        yield ok(_PART, _without_long(hidden=hidden, role=role))


def _without_long(*, hidden: int, role: str) -> str:
    if not hidden:
        return _("No transaction is open for more than 5 minutes.")
    text = _(
        "No transaction that this role sees is open for more than 5 minutes. Hidden sessions of "
        "other roles: %(hidden)s. To see them: GRANT pg_read_all_stats TO %(role)s."
    )
    return text % {"hidden": f"{hidden:,}", "role": role}


def _unvacuumed(tables: Rows) -> Iterator[Finding]:
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

_LEVEL = "SELECT current_setting('transaction_isolation')"
_DEAD_ROWS = r"""
SELECT relname, n_dead_tup, n_live_tup FROM pg_stat_user_tables
WHERE relname LIKE 'outbox\_%' AND n_dead_tup > 10000 AND n_dead_tup > n_live_tup / 2"""
_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
AND now() - query_start > interval '1 second'"""
