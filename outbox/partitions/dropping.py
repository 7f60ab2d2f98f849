"""Drop the partitions of past days that have no rows.

`DETACH PARTITION ... CONCURRENTLY` takes no lock that blocks those who emit, handle or read. It
waits for the transactions that use the table, so it runs in no transaction, and is cancelled after
some seconds. Then `FINALIZE` completes it, which waits for older snapshots only, as long. A
partition is marked by a comment before. So a call first finishes an earlier one.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from django.db import OperationalError, connections, transaction

from outbox import clock
from outbox.deliveries import failpoints
from outbox.deliveries.locks import lock_table
from outbox.deliveries.statements import execute, read
from outbox.deliveries.transient_errors import sqlstate_of

from .days import day_at, first_seq
from .past import Day, has_no_writers, may_remove, past_days

logger = logging.getLogger("outbox.partitions")

#: Comment on a partition that has to be dropped, attached or not.
MARK = "Empty: the outbox detaches and drops it."
#: Seconds to wait for transactions that may store an event of the day.
_WRITER_SECONDS = 2.0
#: The longest and the shortest time limit of `DETACH`, in seconds. No partition can be created and
#: no statistics are collected meanwhile.
_MOST_SECONDS, _LEAST_SECONDS = 5.0, 0.5
_TRIES = 3
#: SQLSTATE of a statement that was cancelled.
_CANCELLED = "57014"


def drop_empty(*, until: float, using: str) -> list[str]:
    """Drop the partitions of each past day that has neither events nor deliveries.

    An empty past partition gets no rows: its range has no new events, all transactions that may
    have stored one have ended, and deliveries need their event. It is checked again before the
    table is dropped.

    The first partition is kept: `flush` and `loaddata` store events with small numbers. Those of
    today and later are kept, too. They are past if the clock was ahead, and a relay would create
    them again.

    Args:
        until: time of `time.monotonic` after which no further one is begun.
        using: the outbox's database alias.

    Returns:
        The names of the dropped days.
    """
    dropped: list[str] = []
    if not _drop_marked(until, using=using):
        return dropped
    today = first_seq(day_at(clock.now(using=using)))
    for day in past_days(using=using):
        if not 0 < day.low < today:
            continue
        if not (_is_empty(day, using=using) and may_remove(day, using=using)):
            continue
        if not has_no_writers(day, until=time.monotonic() + _WRITER_SECONDS, using=using):
            break
        if _is_empty(day, using=using):
            _mark(day, using=using)
            if not _drop_marked(until, using=using):
                break
            dropped.append(day.label)
            logger.info("The empty partitions of %s were dropped.", day.label)
        if time.monotonic() > until:
            break
    return dropped


def may_drop(*, using: str) -> bool:
    """Return whether the connection can run statements in no transaction."""
    connection = connections[using]
    return not connection.in_atomic_block and bool(connection.get_autocommit())


def _mark(day: Day, *, using: str) -> None:
    with transaction.atomic(using=using):
        for leaf in (day.events, day.deliveries):
            execute(f"COMMENT ON TABLE \"{leaf.name}\" IS '{MARK}'", using=using)


def _drop_marked(until: float, *, using: str) -> bool:
    """Detach and drop the marked partitions; return False if a long transaction prevents it."""
    found = read(_MARKED, MARK, using=using)
    for name, parent, is_pending, _is_marked in found:
        if parent:
            how = "FINALIZE" if is_pending else "CONCURRENTLY"
            statement = f'ALTER TABLE {parent} DETACH PARTITION "{name}" {how}'
            if not _run_for(_detach_seconds(until), statement, using=using):
                logger.info("%s is detached later: a transaction uses %s.", name, parent)
                return False
            failpoints.reach(failpoints.AFTER_DETACH)
    for name, _parent, _is_pending, is_marked in found:
        if is_marked:
            _drop_table(name, using=using)
    return True


def _detach_seconds(until: float) -> float:
    return max(_LEAST_SECONDS, min(_MOST_SECONDS, until - time.monotonic()))


def _run_for(seconds: float, statement: str, *, using: str) -> bool:
    """Run a statement for so long; return False if it was cancelled.

    By a cancel request: behind PgBouncer, `statement_timeout` would stay set for other clients.
    """
    session = connections[using]
    session.ensure_connection()
    has_ended = threading.Event()
    canceller = threading.Thread(
        target=_cancel, args=[session.connection, seconds, has_ended], daemon=True
    )
    canceller.start()
    try:
        execute(statement, using=using)
    except OperationalError as error:
        if sqlstate_of(error) != _CANCELLED:
            raise
        return False
    finally:
        has_ended.set()
        canceller.join()  # a request that is being sent would cancel a later statement
    return True


def _cancel(session: Any, seconds: float, has_ended: threading.Event) -> None:
    """Cancel the session's statement after so long, and again if the request was lost."""
    while not has_ended.wait(seconds):
        with suppress(Exception):
            session.cancel()


def _drop_table(name: str, *, using: str) -> None:
    with transaction.atomic(using=using):
        lock_table(name, mode="ACCESS EXCLUSIVE", using=using, tries=_TRIES)
        if _has_rows(name, using=using):
            logger.error(
                "The table %s was detached, and has rows, which nobody reads. It is kept. Store "
                "its rows in the table that it was detached from, then drop it.",
                name,
            )
        else:
            execute(f'DROP TABLE "{name}"', using=using)


def _is_empty(day: Day, *, using: str) -> bool:
    return not any(_has_rows(leaf.name, using=using) for leaf in (day.events, day.deliveries))


def _has_rows(name: str, *, using: str) -> bool:
    [[found]] = read(f'SELECT EXISTS (SELECT 1 FROM "{name}")', using=using)  # noqa: S608  ours
    return bool(found)


# An interrupted `DETACH` of another program is finished, too, since it prevents any other one. Its
# table is not dropped.
_MARKED = """
SELECT name, parent, is_pending, is_marked FROM (
    SELECT c.relname AS name, quote_ident(p.relname) AS parent,
        coalesce(i.inhdetachpending, false) AS is_pending,
        coalesce(obj_description(c.oid, 'pg_class') = %s, false) AS is_marked
    FROM pg_class c
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
    WHERE c.relkind = 'r' AND c.relnamespace =
        (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('outbox_event'))
) found
WHERE is_marked OR is_pending AND parent IN ('outbox_event', 'outbox_delivery')
ORDER BY is_pending DESC, name DESC"""
