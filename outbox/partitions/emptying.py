"""Empty a day: remove all rows of its partitions but those of events that stay.

`TRUNCATE` takes as long for millions of rows as for one. The rows that stay are stored again in the
same transaction with their ids and tokens, so messages in flight stay valid. They are frozen rows,
which older snapshots see, too, such as that of a dump which has not read the table yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import OperationalError, connections
from django.utils.translation import gettext as _

from outbox.deliveries import failpoints
from outbox.deliveries.locks import in_short_tries, is_lock_timeout, limited_waits, lock_table
from outbox.deliveries.statements import bound_transaction, execute, numbers, read
from outbox.models import Delivery

from .copies import Copy
from .past import Day

#: Most events that may stay, and most of their deliveries. They are copied under the lock.
MOST_EVENTS = 5000
MOST_DELIVERIES = 50_000
#: PostgreSQL ends the transaction of a process that is idle for so many seconds: its host may be
#: down, and its locks delay relays.
_IDLE_SECONDS = 5.0
#: Seconds to wait for maintenance, by a lock that blocks nobody else. After 1 s
#: (`deadlock_timeout`), PostgreSQL ends an autovacuum.
_MAINTENANCE_SECONDS = 1.5


class TooManyStay(Exception):
    """More rows of a day have to stay than may be copied under its lock.

    Its text says which, as a part of a sentence.
    """


class IsBusy(Exception):
    """Other transactions have used the day's partitions during all tries."""


@dataclass(frozen=True)
class Emptied:
    """The result of the emptying of a day, and where rows may refer to the removed ones.

    Attributes:
        staying: the `seq` of the events that stay.
        deliveries: the lowest and the highest id of the deliveries that the day had; None: it had
            none.
        events: the lowest and the highest id of the events that it had; None: it had none.
    """

    staying: set[int]
    deliveries: tuple[int, int] | None
    events: tuple[UUID, UUID] | None


def empty(
    day: Day,
    kept: Collection[int],
    *,
    begin: Callable[[], None],
    end: Callable[[Emptied], None],
    further: Sequence[str],
    tries: int,
    using: str,
) -> None:
    """Remove the events of a past day and their deliveries, apart from the kept ones.

    An event that is owed or waits for fan-out stays, too. Each try takes the exclusive locks of the
    two partitions, not of their tables. So it waits only for transactions that used the partitions.
    A transaction whose snapshot is older (`REPEATABLE READ`) sees the rows that stay, and no other.

    Args:
        day: a day without writers (`has_no_writers`).
        kept: the `seq` of events that stay.
        begin: called first in each try's transaction. If it raises, nothing is removed.
        end: called last in it.
        further: SELECT statements of the `seq` of other events that stay.
        tries: number of tries, of 0.3 s each.
        using: the outbox's database alias.

    Raises:
        TooManyStay: more than `MOST_EVENTS` events or `MOST_DELIVERIES` deliveries have to stay.
        IsBusy: a transaction holds a partition for long. The next call may succeed.
    """

    def step(_seconds: float) -> None:
        bound_transaction(_IDLE_SECONDS, using=using)
        execute(_BY_INDEX, using=using)
        begin()  # before the partitions are locked: it may wait for another process
        end(_emptied(day, kept, further, using=using))
        failpoints.reach(failpoints.IN_EMPTYING)

    try:
        in_short_tries(step, using=using, tries=tries)
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        raise IsBusy from error


def _emptied(day: Day, kept: Collection[int], further: Sequence[str], *, using: str) -> Emptied:
    leaves = (day.events, day.deliveries)
    names = ", ".join(f'ONLY "{leaf.name}"' for leaf in leaves)
    with limited_waits(_MAINTENANCE_SECONDS, connection=connections[using]) as cursor:
        cursor.execute(f"LOCK TABLE {names} IN SHARE UPDATE EXCLUSIVE MODE")
    lock_table(*(leaf.name for leaf in leaves), mode="ACCESS EXCLUSIVE", using=using, tries=1)
    staying = {*kept, *owed_in(day, using=using, further=further)}
    refuse_many(day, staying, using=using)
    found = Emptied(
        staying, _ids(day.deliveries.name, using=using), _ids(day.events.name, using=using)
    )
    with ExitStack() as files:
        copies = [Copy.of(leaf, staying, files, using=using) for leaf in leaves if staying]
        execute(f"TRUNCATE {names}", using=using)
        failpoints.reach(failpoints.AFTER_TRUNCATE)
        for copy in copies:
            copy.store(using=using)
    return found


def owed_in(day: Day, *, using: str, further: Sequence[str] = ()) -> set[int]:
    """Return the events of a day that are owed or wait for fan-out, read by partial indexes.

    Args:
        day: the day.
        using: the outbox's database alias.
        further: SELECT statements of the `seq` of others, read on the same snapshot.

    Raises:
        TooManyStay: more than `MOST_DELIVERIES` rows were found.
    """
    owed = [
        f"SELECT event_id FROM \"{day.deliveries.name}\" WHERE state = '{state}'"  # noqa: S608  ours
        for state in Delivery.OWED
    ]
    waiting = f'SELECT seq FROM "{day.events.name}" WHERE fanned_out_at IS NULL'  # noqa: S608  ours
    limit = f"LIMIT {MOST_DELIVERIES + 1}"
    rows = " UNION ALL ".join(f"({one} {limit})" for one in (*owed, waiting, *further))
    found = read(f"{rows} {limit}", using=using)
    if len(found) > MOST_DELIVERIES:  # some may be missing
        text = _("it has more than %(most)s deliveries, settlements, reports or fan-outs to finish")
        raise TooManyStay(text % {"most": f"{MOST_DELIVERIES:,}"})
    return {seq for (seq,) in found}


def refuse_many(day: Day, seqs: Collection[int], *, using: str) -> None:
    """Raise `TooManyStay` if these events and their deliveries are too many to stay."""
    if len(seqs) > MOST_EVENTS:
        text = _("more than %(most)s of its events have to stay")
        raise TooManyStay(text % {"most": f"{MOST_EVENTS:,}"})
    rows = (
        f'SELECT 1 FROM "{day.deliveries.name}" '  # noqa: S608  ours
        f"WHERE event_id IN ({numbers(seqs)}) LIMIT {MOST_DELIVERIES + 1}"
    )
    [[number]] = read(f"SELECT count(*) FROM ({rows}) found", using=using)  # noqa: S608  ours
    if number > MOST_DELIVERIES:
        text = _("its events that have to stay have more than %(most)s deliveries")
        raise TooManyStay(text % {"most": f"{MOST_DELIVERIES:,}"})


def _ids(leaf: str, *, using: str) -> tuple[Any, Any] | None:
    """Return the lowest and the highest id of a partition's rows, by the index of ids."""
    ends = [
        read(f'SELECT id FROM "{leaf}" ORDER BY id {order} LIMIT 1', using=using)  # noqa: S608  ours
        for order in ("ASC", "DESC")
    ]
    return (ends[0][0][0], ends[1][0][0]) if ends[0] else None


#: Partial indexes and the indexes of ids, whatever the planner's statistics say.
_BY_INDEX = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"""
