"""The partitions that the database has, as PostgreSQL's catalogue describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import DatabaseError, connections

from outbox.deliveries.statements import Rows
from outbox.deliveries.transient_errors import sqlstate_of

from .days import first_seq

EVENT = "outbox_event"
DELIVERY = "outbox_delivery"
#: The partitioned tables. Both have partitions with the same ranges.
TABLES = (EVENT, DELIVERY)
#: The partition key of each table, and the column of its sequence.
KEYS = {EVENT: "seq", DELIVERY: "event_id"}
NUMBERED = {EVENT: "seq", DELIVERY: "id"}

_UNDEFINED_TABLE = "42P01"
_BOUND = re.compile(r"FOR VALUES FROM \('?(\d+)'?\) TO \('?(\d+)'?\)")


class UnknownPartition(ValueError):
    """A partition's bound is not one that the outbox creates."""


@dataclass(frozen=True)
class Partition:
    """A partition of events or deliveries.

    Attributes:
        parent: the partitioned table, `outbox_event` or `outbox_delivery`.
        name: the name of the partition's table, in the schema of its parent.
        low: the first `seq` (of deliveries: `event_id`) of its range.
        high: the first `seq` after its range.
        is_detaching: whether an interrupted `DETACH PARTITION ... CONCURRENTLY` has to be finished.
    """

    parent: str
    name: str
    low: int
    high: int
    is_detaching: bool


def is_partitioned(table: str = EVENT, *, using: str) -> bool:
    """Return whether a table has partitions; False on a database that cannot have them."""
    if connections[using].vendor != "postgresql":
        return False
    [[found]] = read(_IS_PARTITIONED, [table], using=using)
    return bool(found)


def partitions(parent: str, *, using: str) -> list[Partition]:
    """Return the partitions of a table, ascending by range; none if the table has none."""
    rows = read(_PARTITIONS, [parent], using=using)
    found = [
        Partition(parent, name, *_range_of(bound), is_detaching=is_detaching)
        for name, bound, is_detaching in rows
    ]
    return sorted(found, key=lambda one: one.low)


def covers(found: Iterable[Partition], day: date) -> bool:
    """Return whether one of these partitions contains numbers of a day."""
    low, high = first_seq(day), first_seq(day + timedelta(days=1))
    return any(one.low < high and low < one.high for one in found)


def is_missing_table(error: DatabaseError) -> bool:
    """Return whether a statement failed because a table does not exist, or was dropped."""
    return sqlstate_of(error) == _UNDEFINED_TABLE


def read(statement: str, params: Any = None, *, using: str) -> Rows:
    """Execute a statement about the catalogue, and return its rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        rows: Rows = cursor.fetchall()
    return rows


def _range_of(bound: str) -> tuple[int, int]:
    matched = _BOUND.fullmatch(bound)
    if matched is None:
        raise UnknownPartition(
            f"A partition of the outbox has the bound {bound!r}, which the outbox did not create. "
            "Detach this partition, or replace it by one with a range of whole days."
        )
    return int(matched[1]), int(matched[2])


_IS_PARTITIONED = """
SELECT count(*) > 0 FROM pg_class WHERE oid = to_regclass(%s) AND relkind = 'p'"""

_PARTITIONS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%s) AND c.relispartition"""

#: The schema of a table, as SQL.
SCHEMA = """
SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)"""

#: Name of each index, kind of its constraint ("p", "u", "x" or ""), the definition of constraint or
#: index, and whether a partitioned table can have it: a unique one must contain the partition key.
INDEXES_OF = """
SELECT c.relname, coalesce(k.contype::text, ''),
    coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(c.oid)),
    k.contype IS DISTINCT FROM 'x' AND (NOT i.indisunique OR a.attnum = ANY(
        (string_to_array(i.indkey::text, ' ')::smallint[])[1:i.indnkeyatts]))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = %(key)s
LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = to_regclass(%(table)s) ORDER BY c.relname"""
