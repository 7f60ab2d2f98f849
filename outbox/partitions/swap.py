"""Replace a table by a partitioned one whose first partition it is: one short transaction.

It changes the catalogue only: no row is read or copied, and no index is built. Each try waits for
the locks for a fraction of a second. Between two tries, others continue. No try begins before the
transactions have ended that use the tables at its time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from django.db import OperationalError, connections
from django.utils.translation import gettext as _

from outbox.deliveries.locks import in_short_tries, is_lock_timeout, limited_waits, lock_table
from outbox.deliveries.statements import bound_transaction
from outbox.deliveries.transient_errors import sqlstate_of

from .carried import carried_statements
from .catalogue import (
    DELIVERY,
    EVENT,
    INDEXES_OF,
    KEYS,
    NUMBERED,
    SCHEMA,
    TABLES,
    is_partitioned,
    read,
)
from .grants import grants, numbering, revoked
from .in_use import users, wait_for_users
from .indexes import LONGEST_NAME
from .preparation import DELIVERY_KEY, INDEXES, first_partition, is_prepared, range_check
from .publications import publications
from .refusal import NotYetPartitioned, Refusal
from .refusals import refusals

#: The tables with a foreign key to or from partitioned ones, which is dropped, and these. Events
#: come last, so that those who emit wait for the shortest time.
_LOCKED = ("outbox_subscription", "outbox_attempt", "outbox_settlement", DELIVERY, EVENT)
#: Seconds for which `swap` tries in all, and the longest pause between two tries.
LONGEST_SECONDS = 600.0
_PAUSE = 0.5
#: Milliseconds that one statement may take under the locks: a change of the catalogue takes few,
#: but the server may be short of processors.
_STATEMENT_LIMIT = 2000
_CANCELLED = "57014"
#: PostgreSQL ends a try that is idle for so many seconds: its host may be down, and all others wait
#: for its locks.
_IDLE_SECONDS = 5.0

#: The primary key of deliveries contains the partition key. Uniqueness of an id is a guarantee of
#: its sequence, or of the generator of UUIDs.
_PRIMARY_KEYS = {"outbox_event": "seq", "outbox_delivery": "event_id, id"}


class NotPrepared(Exception):
    """A step before the swap was undone meanwhile."""


def swap(high: int, *, using: str, report: Callable[[str], object] = lambda text: None) -> None:
    """Let both prepared tables become the partition `[0, high)` of new, partitioned tables.

    Args:
        high: the end of the range.
        using: the database alias.
        report: called with the transactions that have not ended, every ten seconds.

    Raises:
        NotYetPartitioned: there is a reason against it by now, or transactions have used the tables
            during all tries.
        NotPrepared: an index or a check of the range is missing.
    """
    until = time.monotonic() + LONGEST_SECONDS
    while True:
        left = wait_for_users(_LOCKED, until=until, report=report, using=using)
        if not left and _is_swapped(high, until=until, report=report, using=using):
            return
        if time.monotonic() >= until:
            raise NotYetPartitioned([_in_use(left or users(_LOCKED, using=using))])
        time.sleep(random.uniform(0, _PAUSE))


def _is_swapped(high: int, *, until: float, report: Callable[[str], object], using: str) -> bool:
    """Try once; return False if a lock was not free in time, or a statement took too long."""
    try:
        in_short_tries(partial(_swap, high, using), using=using, tries=1)
    except OperationalError as error:
        is_slow = sqlstate_of(error) == _CANCELLED
        if is_slow and time.monotonic() < until:
            report(_("A statement took too long under the locks. It is tried again."))
        elif not is_lock_timeout(error):
            raise
        return False
    return True


def _in_use(users: Mapping[str, str]) -> Refusal:
    return Refusal(
        _("Other transactions have used the tables for %(seconds)s seconds. The last: %(users)s.")
        % {"seconds": f"{LONGEST_SECONDS:g}", "users": ", ".join(users.values()) or "-"},
        _("Wait until these have ended, or end them. Then run this command again: it continues."),
    )


def _swap(high: int, using: str, seconds: float) -> None:
    connection = connections[using]
    bound_transaction(_IDLE_SECONDS, using=using)
    with connection.cursor() as cursor:
        # From now on nobody else changes the tables, and PostgreSQL ends an autovacuum of them.
        # This lock blocks no reader or writer, however long it is waited for.
        cursor.execute(f"LOCK TABLE {', '.join(_LOCKED)} IN SHARE UPDATE EXCLUSIVE MODE")
    if is_partitioned(using=using):
        return
    # Otherwise PostgreSQL would build the index or read all rows under the locks.
    if not is_prepared(high, using=using):
        raise NotPrepared
    # A foreign key or trigger that was created since the first look would be lost.
    if reasons := refusals(using=using):
        raise NotYetPartitioned(reasons)
    statements = [f"SET LOCAL statement_timeout = {_STATEMENT_LIMIT}"]
    statements += _statements(high, using=using)
    lock_table(*_LOCKED, mode="ACCESS EXCLUSIVE", using=using, tries=1)
    with limited_waits(seconds, connection=connection) as cursor:
        cursor.execute(";\n".join(statements))  # one message, so the network delays it once


def _statements(high: int, *, using: str) -> list[str]:
    """Return all statements; those that read the catalogue have read it before the long locks."""
    found = [
        f"ALTER TABLE {table} DROP CONSTRAINT {name}"
        for table, name in read(_FOREIGN_KEYS, using=using)
    ]
    for table in TABLES:
        found += _of_table(table, high, using=using)
    return found


def _of_table(table: str, high: int, *, using: str) -> Iterator[str]:
    first, [[schema]] = first_partition(table), read(SCHEMA, [table], using=using)
    yield from _numbers(table, schema, using=using)
    yield from _make_room(table, using=using)
    yield f"ALTER TABLE {table} RENAME TO {first}"
    yield (
        f"CREATE TABLE {schema}.{table} (LIKE {first} INCLUDING ALL EXCLUDING INDEXES "
        f"EXCLUDING IDENTITY) PARTITION BY RANGE ({KEYS[table]})"
    )
    yield f"ALTER TABLE {table} DROP CONSTRAINT {range_check(table)}"
    yield from _indexes(table, using=using)
    if table == DELIVERY:
        yield (
            f"ALTER TABLE {first} ADD CONSTRAINT {first}_pkey PRIMARY KEY USING INDEX "
            f"{DELIVERY_KEY.name}"
        )
    yield f"ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM (0) TO ({high})"
    yield f"ALTER TABLE {first} DROP CONSTRAINT {range_check(table)}"
    yield from carried_statements(table, using=using)
    yield from publications(table, first, using=using)
    yield from _number_by_default(table, schema, using=using)


def _numbers(table: str, schema: str, *, using: str) -> Iterator[str]:
    """Yield statements that replace the sequence of an identity column by one of its own.

    An identity column of a partitioned table needs PostgreSQL 17. A default works everywhere.
    """
    column, own = NUMBERED[table], f"{schema}.{table}_numbers"
    [[old]] = read(_SEQUENCE, [table, column], using=using)
    yield f"CREATE SEQUENCE {own}"
    yield f"SELECT setval('{own}', last_value, is_called) FROM {old}"  # noqa: S608  ours
    yield f"ALTER TABLE {table} ALTER {column} DROP IDENTITY"
    yield f"ALTER SEQUENCE {own} RENAME TO {table}_{column}_seq"  # as Django names it


def _number_by_default(table: str, schema: str, *, using: str) -> Iterator[str]:
    column, sequence = NUMBERED[table], f"{schema}.{table}_{NUMBERED[table]}_seq"
    [[old]] = read(_SEQUENCE, [table, column], using=using)
    [[owner]] = read(_OWNER, [table], using=using)
    yield f"ALTER TABLE {table} ALTER {column} SET DEFAULT nextval('{sequence}')"
    yield from revoked(sequence, kind="SEQUENCE", using=using)
    yield f"ALTER SEQUENCE {sequence} OWNER TO {owner}"
    yield f"ALTER SEQUENCE {sequence} OWNED BY {table}.{column}"
    yield from grants(old, to=sequence, kind="SEQUENCE", using=using)
    yield from numbering(table, sequence, using=using)


def _make_room(table: str, *, using: str) -> Iterator[str]:
    """Yield statements that remove the unique index of ids, and rename the other indexes."""
    first, prepared = first_partition(table), {one.name for one in INDEXES}
    for name, _kind, _definition, fits in read(
        INDEXES_OF, {"table": table, "key": KEYS[table]}, using=using
    ):
        if not fits:
            yield f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'
        elif name not in prepared:
            own = f"{first}_{name.removeprefix(f'{table}_')}"[:LONGEST_NAME]
            yield f'ALTER INDEX "{name}" RENAME TO "{own}"'


def _indexes(table: str, *, using: str) -> Iterator[str]:
    """Yield statements that create the new table's keys and indexes, under the present names."""
    yield f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({_PRIMARY_KEYS[table]})"
    yield f"CREATE INDEX {table}_id ON {table} (id)"
    prepared = {one.name for one in INDEXES}
    for name, kind, definition, fits in read(
        INDEXES_OF, {"table": table, "key": KEYS[table]}, using=using
    ):
        if name in prepared or not fits or kind == "p":
            continue
        yield f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}' if kind else definition


_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint
WHERE contype = 'f' AND (
    conrelid IN (to_regclass('outbox_event'), to_regclass('outbox_delivery'))
    OR confrelid IN (to_regclass('outbox_event'), to_regclass('outbox_delivery')))"""

_OWNER = """
SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = to_regclass(%s)"""

_SEQUENCE = "SELECT pg_get_serial_sequence(%s, %s)"
