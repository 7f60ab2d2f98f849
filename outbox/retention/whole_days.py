"""Remove whole days from partitioned tables, whatever the number of their events.

One day after the other is closed, so that nothing of it becomes owed again, and removed by
`DayRemoval`. A later run continues an interrupted removal. The rows that stay are pruned row by row
later.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from uuid import uuid4

from django.db import (
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    transaction,
)

from outbox.conf import conf
from outbox.deliveries import failpoints
from outbox.deliveries.locks import is_lock_timeout, lock_subscriptions
from outbox.deliveries.statements import bound_transaction
from outbox.deliveries.transient_errors import drop_broken_connection
from outbox.formatting import one_line
from outbox.partitions import closing
from outbox.partitions.ahead import may_read_last
from outbox.partitions.catalogue import UnknownPartition, is_missing_table, is_partitioned
from outbox.partitions.dropping import drop_empty, may_drop
from outbox.partitions.emptying import TooManyStay
from outbox.partitions.past import Day, has_no_writers, obstacle, past_days, writers

from . import record as records
from .archive import Archive
from .batches import pruning_transaction
from .one_day import DayRemoval
from .pace import Pace
from .record import Policy, Record
from .staying import Horizons, has_events, is_removable, names_in

logger = logging.getLogger("outbox.operations")

#: Tries to get the locks of a step, of 0.3 s each: of a run with and without a time limit.
_FEW_TRIES, _TRIES = 3, 20
#: Most seconds to wait for transactions that may store an event of a past day.
_WRITER_SECONDS = 60.0
_IDLE_SECONDS = 10.0
#: Seconds until a run with a time limit examines a day again that could not be removed.
_AGAIN_SECONDS = 3600.0
#: Time until it tries again to empty a day that others have used for too long.
_HELD_UP = timedelta(days=1)

#: For example, a program holds the table, has a view of it, or has added a default partition.
_CANNOT_DROP = (InternalError, NotSupportedError, OperationalError, ProgrammingError, ValueError)

#: When a day is examined again, by alias and partition.
_examined_again_at: dict[tuple[str, str], float] = {}


def has_days(*, using: str) -> bool:
    """Return whether days can be removed: the tables have partitions, no transaction is open.

    The sequence shows which days are past. If this role may not read it, the doctor reports that.
    """
    if not conf().PARTITION or not may_drop(using=using):
        return False
    return is_partitioned(using=using) and may_read_last(using=using)


class Removal:
    """Removal of whole days.

    Args:
        horizons: the time before which events are pruned, by name. Other types stay.
        archive: the archive, or None.
        pace: the size of steps, and the rests.
        until: time of `time.monotonic` at which it ends.
        by: the person or process that prunes.
        using: the outbox's database alias.
    """

    def __init__(
        self,
        horizons: Horizons,
        *,
        archive: Archive | None,
        pace: Pace,
        until: float,
        by: str,
        using: str,
    ) -> None:
        folder = "" if archive is None else str(archive.folder.absolute())
        self._policy, self._run = Policy(horizons, folder), uuid4().hex
        self._archive, self._pace = archive, pace
        self._until, self._by, self._using = until, by, using
        self._is_limited = until < float("inf")
        self._tries = _FEW_TRIES if self._is_limited else _TRIES

    def run(self) -> None:
        """Remove the days that can be removed."""
        low = -1
        try:
            if record := records.continued(self._policy, self._run, using=self._using):
                self._continue(record)
            while (day := self._next(low)) is not None:
                low = day.low
                if time.monotonic() > self._until:
                    break
                if (other := closing.removal(using=self._using)) is not None:
                    text = "Operation %d is still removing %s. Other days are removed after it."
                    logger.info(text, other.pk, other.choice[records.DAY])
                    break
                if self._is_removable(day) and (new := self._close(day)) is not None:
                    self._remove(new, day)
        except UnknownPartition as error:
            logger.warning("No whole days are removed. %s", error)

    def finish_emptied(self) -> None:
        """Delete the remaining rows of an emptied day. It needs no partitions and no setting."""
        found = closing.removal(using=self._using) if may_drop(using=self._using) else None
        if found is None or found.choice[records.STEP] != records.SWEEPING:
            return
        if record := records.continued(self._policy, self._run, using=self._using):
            self._remove(record, None)

    def drop_empty(self, *, until: float) -> None:
        """Drop the partitions of past days that have no rows, if no long transaction delays it."""
        try:
            drop_empty(until=until, using=self._using)
        except _CANNOT_DROP as error:
            text = "The empty partitions of past days cannot be dropped now: %s"
            logger.warning(text, one_line(str(error)))
            drop_broken_connection(using=self._using)

    def _next(self, low: int) -> Day | None:
        """Return the next past day. Another process may have dropped some meanwhile."""
        return next((one for one in past_days(using=self._using) if one.low > low), None)

    def _continue(self, record: Record) -> None:
        low = record.choice[closing.LOW]
        day = self._next(low - 1)
        if record.step == records.SWEEPING:
            self._remove(record, None)
            return
        if day is None or day.low != low:
            why = "it has no partition"
        elif not (why := obstacle(day, using=self._using)):
            self._remove(record, day)
            return
        record.give_up(why)

    def _is_removable(self, day: Day) -> bool:
        key = (self._using, day.events.name)
        if self._is_limited and time.monotonic() < _examined_again_at.get(key, 0.0):
            return False
        if self._is_worth_it(day):
            if not (why := obstacle(day, using=self._using)):
                return True
            logger.warning("%s is pruned row by row: %s.", day.label, why)
        self._examine_later(day)
        return False

    def _is_worth_it(self, day: Day) -> bool:
        try:
            with pruning_transaction(self._using):
                found = is_removable(day, self._policy.horizons, using=self._using)
        except ProgrammingError as error:
            if not is_missing_table(error):
                raise
            return False  # another process has dropped it
        return found and not (
            self._is_limited and records.was_held_up(day, within=_HELD_UP, using=self._using)
        )

    def _examine_later(self, day: Day) -> None:
        key = (self._using, day.events.name)
        _examined_again_at[key] = time.monotonic() + _AGAIN_SECONDS

    def _close(self, day: Day) -> Record | None:
        """Close a day: no settled delivery of it becomes owed again. None: it is not possible now.

        Before, all transactions end that may store one of its events.
        """
        until = min(self._until, time.monotonic() + _WRITER_SECONDS)
        if not has_no_writers(day, until=until, using=self._using):
            text = "%s is removed later: transactions of processes %s may have stored its events."
            level = logging.INFO if self._is_limited else logging.WARNING
            logger.log(level, text, day.label, writers(using=self._using))
            return None
        try:
            record = self._stored(day)
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
            return None
        except ProgrammingError as error:
            if not is_missing_table(error):
                raise
            return None  # another process has dropped it
        if record is not None:
            failpoints.reach(failpoints.AFTER_CLOSE)
        return record

    def _stored(self, day: Day) -> Record | None:
        """Store that a day is closed. None: another process removes it, or has removed it."""
        with pruning_transaction(self._using):
            policy = self._policy.of_types(set(names_in(day, using=self._using)))
        with transaction.atomic(using=self._using):
            bound_transaction(_IDLE_SECONDS, using=self._using)
            lock_subscriptions(using=self._using, tries=self._tries)
            is_other = closing.removal(using=self._using) is not None
            if is_other or not has_events(day, using=self._using):
                return None
            return records.stored(day, policy, self._run, by=self._by, using=self._using)

    def _remove(self, record: Record, day: Day | None) -> None:
        removal = DayRemoval(
            record,
            day,
            archive=self._archive,
            pace=self._pace,
            until=self._until,
            tries=self._tries,
            using=self._using,
        )
        try:
            removal.carry_out(by=self._by)
        except TooManyStay as error:
            record.give_up(str(error))
            if day is not None:
                self._examine_later(day)
