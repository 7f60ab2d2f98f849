"""Prepare a table, beside writes, to become the first partition of a partitioned one.

Afterwards PostgreSQL can attach it without reading a row: the indexes that the new table has exist,
and a valid check proves that each row is in the partition's range.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

from django.db import connections

from outbox.deliveries.locks import in_short_tries, limited_waits
from outbox.deliveries.statements import bound_transaction

from .catalogue import DELIVERY, EVENT, KEYS, SCHEMA, TABLES, is_partitioned, read
from .in_use import wait_for_users

#: PostgreSQL ends a transaction under the lock that is idle for so many seconds: its host may be
#: down, and all who need the table wait.
_IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class Prepared:
    """An index that the first partition needs, and that the table does not have.

    Attributes:
        table: the table.
        name: the name of the index.
        columns: its columns, as SQL.
        is_unique: whether it is unique.
    """

    table: str
    name: str
    columns: str
    is_unique: bool = False


def first_partition(table: str) -> str:
    """Return the name that a converted table gets as a partition."""
    return f"{table}_before"


#: The index of the primary key that deliveries get.
DELIVERY_KEY = Prepared(DELIVERY, f"{first_partition(DELIVERY)}_key", "event_id, id", True)
#: A partitioned table has no unique index without its key. So ids have plain ones.
INDEXES = (
    Prepared(EVENT, f"{first_partition(EVENT)}_id", "id"),
    Prepared(DELIVERY, f"{first_partition(DELIVERY)}_id", "id"),
    DELIVERY_KEY,
)


def is_prepared(high: int, *, using: str) -> bool:
    """Return whether all indexes are built, and all checks of the range `[0, high)` are valid."""
    return all(is_built(index, using=using) for index in INDEXES) and all(
        is_checked(table, high, using=using) for table in TABLES
    )


def range_check(table: str) -> str:
    """Return the name of the check of the first partition's range."""
    return f"{table}_range"


def is_built(index: Prepared, *, using: str) -> bool:
    """Return whether an index exists and is valid, or the table has its partitions already."""
    return is_partitioned(index.table, using=using) or bool(
        read(_VALID, [index.table, index.name], using=using)
    )


def build(index: Prepared, *, using: str) -> None:
    """Build an index beside writes; first remove the rest of an interrupted build."""
    kind = "UNIQUE INDEX" if index.is_unique else "INDEX"
    with connections[using].cursor() as cursor:
        # With the schema: a later one of the search path may have an outbox, too.
        [[schema]] = read(SCHEMA, [index.table], using=using)
        cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index.name}")
        cursor.execute(
            f"CREATE {kind} CONCURRENTLY {index.name} ON {index.table} ({index.columns})"
        )


def is_checked(table: str, high: int, *, using: str) -> bool:
    """Return whether a valid check proves that all numbers are below `high`, or as `is_built`."""
    return is_partitioned(table, using=using) or _check_of(table, using=using) == (high, True)


def check(
    table: str, high: int, *, using: str, report: Callable[[str], object] = lambda text: None
) -> None:
    """Add the check of the range `[0, high)`, and validate it beside writes.

    Args:
        table: the table.
        high: the end of the range.
        using: the database alias.
        report: called with the transactions that are waited for, every ten seconds.
    """
    if _check_of(table, using=using) != (high, False):
        in_short_tries(partial(_add_check, table, high, using, report), using=using)
    if not is_partitioned(table, using=using):
        with connections[using].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {range_check(table)}")


def _add_check(
    table: str, high: int, using: str, report: Callable[[str], object], seconds: float
) -> None:
    key, name = KEYS[table], range_check(table)
    # All who need the table would queue behind each try while a long transaction has it.
    wait_for_users([table], until=inf, report=report, using=using)
    bound_transaction(_IDLE_SECONDS, using=using)
    with limited_waits(seconds, connection=connections[using]) as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        # Under the lock: a partitioned table with this check would refuse later days.
        if is_partitioned(table, using=using):
            return
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
        cursor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({key} >= 0 AND {key} < {high}) "
            "NOT VALID"
        )


def leftover_checks(*, using: str) -> list[str]:
    """Return the tables that have partitions, and the check of the first one's range."""
    return [
        table
        for table in TABLES
        if is_partitioned(table, using=using) and _check_of(table, using=using)
    ]


def _check_of(table: str, *, using: str) -> tuple[int, bool] | None:
    """Return the end of the checked range, and whether the check is valid; None without one."""
    found = read(_CHECK, [table, range_check(table)], using=using)
    if not found:
        return None
    [[definition, is_valid]] = found
    return int(re.findall(r"\d+", definition)[-1]), is_valid


_VALID = """
SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass(%s) AND c.relname = %s AND indisvalid"""

_CHECK = """
SELECT pg_get_expr(conbin, conrelid), convalidated FROM pg_constraint
WHERE conrelid = to_regclass(%s) AND conname = %s"""
