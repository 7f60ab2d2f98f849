"""Partitions of the coming days, and the jump of `seq` to the range of the present day.

The relay calls `Housekeeping` between its passes, and `manage.py outbox partition` calls
`keep_ahead`. If neither runs, the sequence stays in the range of a day that has a partition. So
events can always be stored.
"""

from __future__ import annotations

import logging
import time
from datetime import date, timedelta
from typing import Any

from django.db import connections, transaction

from outbox import clock
from outbox.conf import conf
from outbox.deliveries.key_locks import key_number
from outbox.deliveries.locks import in_short_tries, limited_waits
from outbox.deliveries.transient_errors import drop_broken_connection
from outbox.formatting import one_line

from .catalogue import TABLES, covers, is_partitioned, partitions, read
from .days import day_at, first_seq
from .leaves import create_day

logger = logging.getLogger("outbox.partitions")

#: Days after the present one for which partitions exist.
DAYS_AHEAD = 7
_CHECK_SECONDS = 60.0
_TRIES = 3

#: The advisory lock of those who create partitions or let the sequence jump.
LOCK = key_number("days", kind=b"partitions")


class CannotRead(Exception):
    """This role has no `USAGE` of the sequence `outbox_event_seq_seq`."""


class Housekeeping:
    """Calls `keep_ahead` once a minute. An error is logged, and ends nothing.

    Args:
        using: the outbox's database alias.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._checked_at = -_CHECK_SECONDS

    def run(self) -> None:
        """Keep partitions ahead, if `OUTBOX["PARTITION"]` is set and a minute is over."""
        now = time.monotonic()
        if not conf().PARTITION or now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        try:
            for day in keep_ahead(using=self._using):
                logger.info("The partitions of %s were created.", day)
        except Exception as error:
            logger.warning(
                "The partitions of the next days could not be examined or created (%s). Events "
                "are stored in those that exist. It is tried again in a minute.",
                one_line(str(error)),
            )
            drop_broken_connection(using=self._using)


def keep_ahead(*, using: str) -> list[date]:
    """Create the missing partitions of today and the next days, and let the sequence jump.

    Days are those of UTC, by the clock of the database. Without partitions it does nothing. Without
    the rights of the tables' owner it creates no partition.

    Returns:
        The days whose partitions it has created.

    Raises:
        OperationalError: a maintenance statement holds a table for long.
    """
    if not is_partitioned(using=using):
        return []
    today = day_at(clock.now(using=using))
    jump(today, using=using)  # first: the creation of a later day may fail
    created = [day for day in missing_days(today, using=using) if _create(day, using=using)]
    if today in created:
        jump(today, using=using)
    return created


def missing_days(today: date, *, using: str) -> list[date]:
    """Return the days up to `DAYS_AHEAD` days later of which a table has no partition."""
    known = [partitions(table, using=using) for table in TABLES]
    days = [today + timedelta(days=number) for number in range(DAYS_AHEAD + 1)]
    return [day for day in days if not all(covers(found, day) for found in known)]


def jump(today: date, *, using: str) -> bool:
    """Let the sequence of `seq` jump to today's range, if it is behind and partitions exist.

    Returns:
        Whether it jumped.
    """
    if not has_partitions(today, using=using) or not _may(_MAY_JUMP, using=using):
        return False
    with transaction.atomic(using=using):
        # `setval` is no transaction. A second one after the first `nextval` would repeat numbers.
        if not _is_alone(using=using):
            return False
        # The last number before the range, as used: so this condition is then no longer true.
        last = first_seq(today) - 1
        return bool(read(_JUMP, {"last": last}, using=using))


def is_behind(today: date, *, using: str) -> bool:
    """Return whether a day has partitions, and the sequence is still before its range.

    Raises:
        CannotRead: this role may not read the last number; see `may_read_last`.
    """
    has_day = has_partitions(today, using=using)
    return has_day and last_seq(using=using) < first_seq(today) - 1


def last_seq(*, using: str) -> int:
    """Return the last number that the sequence has given, or that it jumped over.

    Raises:
        CannotRead: this role has no `USAGE` of the sequence.
    """
    if not may_read_last(using=using):
        raise CannotRead(CannotRead.__doc__)
    [[last]] = read(_LAST, using=using)
    return int(last)


def may_read_last(*, using: str) -> bool:
    """Return whether this role may read the last number. PostgreSQL 17 reads NULL otherwise."""
    return _may(_MAY_READ, using=using)


def has_partitions(day: date, *, using: str) -> bool:
    """Return whether both tables have a partition with exactly the range of a day."""
    low, high = first_seq(day), first_seq(day + timedelta(days=1))
    return all(
        any((one.low, one.high) == (low, high) and not one.is_detaching for one in found)
        for found in [partitions(table, using=using) for table in TABLES]
    )


def may_create(*, using: str) -> bool:
    """Return whether this role may create partitions: it owns the tables, and has the schema."""
    return _may(_MAY_CREATE, using=using)


def _create(day: date, *, using: str) -> bool:
    """Create the partitions of a day; return False if another process does or no right is given."""
    created = False

    def step(seconds: float) -> None:
        nonlocal created
        with limited_waits(seconds, connection=connections[using]):
            if _is_alone(using=using) and day in missing_days(day, using=using):
                create_day(day, using=using)
                created = True

    if may_create(using=using):
        in_short_tries(step, using=using, tries=_TRIES)
    return created


def _is_alone(*, using: str) -> bool:
    """Take the advisory lock until the transaction ends; return False if another one has it."""
    return _may("SELECT pg_try_advisory_xact_lock(%s)", [LOCK], using=using)


def _may(statement: str, params: Any = None, *, using: str) -> bool:
    [[answer]] = read(statement, params, using=using)
    return bool(answer)


_MAY_CREATE = """
SELECT bool_and(pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE'))
FROM pg_class c WHERE c.oid IN (to_regclass('outbox_event'), to_regclass('outbox_delivery'))"""

_SEQUENCE = "pg_get_serial_sequence('outbox_event', 'seq')"
_MAY_READ = f"SELECT has_sequence_privilege({_SEQUENCE}, 'USAGE')"
# Without USAGE its last value reads as NULL, and the sequence would be set back.
_MAY_JUMP = f"""
SELECT has_sequence_privilege({_SEQUENCE}, 'UPDATE')
AND has_sequence_privilege({_SEQUENCE}, 'USAGE')"""
_LAST = f"SELECT coalesce(pg_sequence_last_value({_SEQUENCE}::regclass), 0)"
_JUMP = f"""
SELECT setval({_SEQUENCE}, %(last)s) FROM ({_LAST} AS last) found WHERE last < %(last)s"""  # noqa: S608  ours
