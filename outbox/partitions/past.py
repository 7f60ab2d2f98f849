"""Past days: partitions that get no new events, since the sequence is behind their range."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .ahead import last_seq
from .catalogue import DELIVERY, EVENT, Partition, partitions, read
from .closing import label
from .publications import publishers
from .table_refusals import foreign_keys_to

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Day:
    """The two partitions of one range.

    Attributes:
        events: the partition of events.
        deliveries: the partition of their deliveries.
    """

    events: Partition
    deliveries: Partition

    @property
    def low(self) -> int:
        """The first `seq` of its range."""
        return self.events.low

    @property
    def high(self) -> int:
        """The first `seq` after its range."""
        return self.events.high

    @property
    def label(self) -> str:
        """Its name for people."""
        return label(self.low, self.high)


def past_days(*, using: str) -> list[Day]:
    """Return the days below the sequence whose two partitions are attached, the oldest first."""
    last = last_seq(using=using)
    events = {one.low: one for one in _attached(EVENT, using=using)}
    deliveries = {one.low: one for one in _attached(DELIVERY, using=using)}
    days = [Day(events[low], deliveries[low]) for low in sorted(events.keys() & deliveries.keys())]
    return [day for day in days if day.high - 1 <= last]


def _attached(parent: str, *, using: str) -> list[Partition]:
    return [one for one in partitions(parent, using=using) if not one.is_detaching]


#: The transactions that may still store an event of a day, by server, database and partition.
_writers: dict[tuple[Any, ...], set[str]] = {}


def has_no_writers(day: Day, *, until: float, using: str) -> bool:
    """Wait for the end of each transaction that may store an event of a past day.

    A transaction may have taken a number of a past day, and commit later. It has locked the table
    of events before it took the number. This function waits for all transactions that hold this
    lock at the first call, as `DETACH PARTITION ... CONCURRENTLY` does, without a lock of its own.
    Later ones take later numbers. This process remembers the transactions, so that a later call
    waits for the rest of them only.

    Args:
        day: a past day.
        until: time of `time.monotonic` at which it ends.
        using: the outbox's database alias.

    Returns:
        Whether they have ended. Then no event is added to the day.
    """
    key = (using, *read(_SERVER, [day.events.name], using=using)[0])
    while _writers.get(key) != set():
        holding = {transaction for (transaction,) in read(_WRITERS, using=using)}
        known = _writers.get(key, holding)
        _writers[key] = {one for one in holding if one in known or one.startswith(_PREPARED)}
        if _writers[key] and time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS if _writers[key] else 0)
    return True


def writers(*, using: str) -> list[int]:
    """Return the process ids of other sessions whose transaction may have stored events."""
    return [pid for (pid,) in read(_WRITING, using=using)]


def may_remove(day: Day, *, using: str) -> bool:
    """Return whether this role may empty and drop a day: it owns the tables, without policies."""
    [[may]] = read(_MAY, [day.events.name, day.deliveries.name], using=using)
    return bool(may)


def obstacle(day: Day, *, using: str) -> str:
    """Return why a day cannot be emptied, a part of a sentence; "": it can be."""
    if not may_remove(day, using=using):
        return (
            "this role does not own the partitions of its events and deliveries, or row-level "
            "security is active for it"
        )
    for leaf in (day.events, day.deliveries):
        for table in (leaf.parent, leaf.name):
            for name, other in foreign_keys_to(table, using=using):  # `TRUNCATE` would fail
                return f"the foreign key {name} of {other} refers to it"
        for one in publishers(leaf.parent, using=using):
            if one.has_changes:  # subscribers would keep its rows
                return f"the publication {one.name} has more than inserts"
    return ""


def holders(table: str, *, using: str) -> list[int]:
    """Return the process ids of other sessions that have locked a table.

    Maintenance is left out, and a run that empties the day: it takes the same lock first.
    """
    return [pid for (pid,) in read(_HOLDERS, [table], using=using)]


# COPY, by which rows are stored again, refuses a table with policies for this role. A day without
# partitions was removed by another process meanwhile.
_MAY = """
SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE') AND NOT row_security_active(oid)), true)
FROM pg_class WHERE oid IN (to_regclass(quote_ident(%s)), to_regclass(quote_ident(%s)))"""
# The partition by its number: other schemas, and a restored database, have the same names.
_SERVER = """
SELECT pg_postmaster_start_time(), oid, to_regclass(quote_ident(%s))::oid
FROM pg_database WHERE datname = current_database()"""
_OF_TABLE = """
FROM pg_locks WHERE locktype = 'relation' AND pid IS DISTINCT FROM pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
# A prepared transaction has no process, and keeps its locks under another name.
_PREPARED = "-1/"
_OF_WRITERS = f"""
{_OF_TABLE} AND relation = to_regclass('outbox_event') AND mode = 'RowExclusiveLock'"""
_WRITERS = f"SELECT DISTINCT virtualtransaction {_OF_WRITERS}"
_WRITING = f"SELECT DISTINCT pid {_OF_WRITERS} AND pid IS NOT NULL ORDER BY pid"
_HOLDERS = f"""
SELECT pid {_OF_TABLE} AND granted AND relation = to_regclass(%s) AND pid IS NOT NULL
GROUP BY pid HAVING NOT bool_or(mode = 'ShareUpdateExclusiveLock') ORDER BY pid"""
