"""Checks of the connection to the outbox's database. The messages:

E027 transactions read an old snapshot on PostgreSQL
W002 SQLite takes its write lock late
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections

from outbox import databases


def check_database() -> Iterator[CheckMessage]:
    """Find connection options that break the outbox's guarantees or cause frequent failures."""
    using = databases.alias()
    if connections[using].vendor == "postgresql":
        yield from _old_snapshots(using)
    elif connections[using].vendor == "sqlite":
        yield from _late_write_lock(using)


def _old_snapshots(using: str) -> Iterator[CheckMessage]:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    given = connections[using].settings_dict.get("OPTIONS", {}).get("isolation_level")
    if given in (None, IsolationLevel.READ_COMMITTED):
        return
    known = [level.name for level in IsolationLevel if level == given]
    level = known[0].replace("_", " ") if known else repr(given)
    yield Error(
        f'DATABASES["{using}"] has the isolation level {level}. The outbox needs READ COMMITTED: '
        "it takes a lock, and then reads what was committed before that. A snapshot from before "
        "the lock makes it blank events that are owed, and run two deliveries of one key at once.",
        hint=f'Remove "isolation_level" from DATABASES["{using}"]["OPTIONS"]. A block that needs a '
        "snapshot can begin with SET TRANSACTION ISOLATION LEVEL REPEATABLE READ.",
        obj="settings",
        id="outbox.E027",
    )


def _late_write_lock(using: str) -> Iterator[CheckMessage]:
    options = connections[using].settings_dict.get("OPTIONS", {})
    mode = str(options.get("transaction_mode") or "DEFERRED")
    if mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f"SQLite takes its write lock late (transaction_mode is {mode}): a transaction that "
            'reads first and then writes fails with "database is locked" as soon as two run at '
            "once, and its timeout does not help.",
            hint=f'DATABASES["{using}"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE"',
            obj="settings",
            id="outbox.W002",
        )
