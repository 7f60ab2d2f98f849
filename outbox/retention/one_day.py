"""Remove one closed day: examine it, archive it, empty it, and sweep up behind it.

In slices beside others it is examined which of its events stay, and the others are archived. Then
the day is emptied at once. Attempts, settlements, sent reports and deduplication keys of removed
events are deleted afterwards, so a removal that is given up has deleted nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from outbox.deliveries import failpoints
from outbox.models import Operation
from outbox.partitions import closing
from outbox.partitions.emptying import Emptied, IsBusy, empty, refuse_many
from outbox.partitions.past import Day

from . import record as records
from .archive import Archive
from .pace import Pace, Stopped
from .record import Policy, Postponed, Record
from .slices import Left, Span, archive_span, last_of, left_by, sweep
from .staying import slice_of, unfinished_in, unsettled_in

logger = logging.getLogger("outbox.operations")

#: Slices that are only examined are so many times as large as the batches of other pruning. Their
#: locks block nobody.
_SLICE_BATCHES = 80


class DayRemoval:
    """The removal of a closed day, by one run.

    Args:
        record: its operation, which this run has taken.
        day: the day; None: it was emptied, and has no partitions any more.
        archive: the archive, or None.
        pace: the size of steps, and the rests.
        until: time of `time.monotonic` at which the run ends.
        tries: tries to get the locks of the partitions, of 0.3 s each.
        using: the outbox's database alias.
    """

    def __init__(
        self,
        record: Record,
        day: Day | None,
        *,
        archive: Archive | None,
        pace: Pace,
        until: float,
        tries: int,
        using: str,
    ) -> None:
        self._record, self._day, self._archive = record, day, archive
        self._pace, self._until, self._tries, self._using = pace, until, tries, using

    def carry_out(self, *, by: str) -> None:
        """Carry out the steps that are left, or let a later run continue.

        The removed events are added to those of the pace.

        Args:
            by: the person or process that prunes, for the log.

        Raises:
            TooManyStay: more rows have to stay than may be copied.
            Stopped: the run was stopped. A later run continues.
        """
        try:
            if self._day is not None and self._record.step != records.SWEEPING:
                self._prepare(self._day)
                self._empty(self._day, by)
            self._repeat(self._sweep_page)
        except IsBusy:
            if self._record.is_held_up():
                self._record.give_up(records.HELD_UP)
            self._postpone()
        except Postponed:
            self._postpone()
        except Stopped:
            self._postpone()
            raise

    def _postpone(self) -> None:
        if self._record.operation.state == Operation.State.RUNNING:
            day = self._record.choice[records.DAY]
            logger.info("The removal of %s is continued later.", day)
            self._record.release()

    def _prepare(self, day: Day) -> None:
        if self._record.step == records.BEGUN:
            self._examine(day)
        if self._record.step == records.EXAMINING:
            self._repeat(lambda: self._examine_slice(day))
        archive = self._archive
        if self._record.step == records.ARCHIVING and archive is not None:
            self._repeat(lambda: self._archive_slice(day, archive))

    def _repeat(self, step: Callable[[], bool]) -> None:
        """Repeat a step until it returns False, with rests."""
        began = time.monotonic()
        while step():
            failpoints.reach(failpoints.AFTER_SLICE)
            if time.monotonic() > self._until:
                raise Postponed
            time.sleep(self._pace.rest_after(time.monotonic() - began))
            began = time.monotonic()

    def _examine(self, day: Day) -> None:
        """Store which events are owed, and stay. The day is closed, so no other becomes owed."""
        with self._record.changing():
            self._record.choice[closing.KEPT] = sorted(unfinished_in(day, using=self._using))
            self._record.begin(records.EXAMINING)

    def _examine_slice(self, day: Day) -> bool:
        """Store which of the next events a retention keeps; return False at the end of the day."""
        number = self._pace.batch * _SLICE_BATCHES
        with self._record.changing() as operation:
            ages = Policy.of(self._record.choice).horizons
            found = slice_of(day, operation.cursor, ages, number=number, using=self._using)
            if found is None:
                self._record.begin(records.EMPTYING if self._archive is None else records.ARCHIVING)
                return False
            if young := set(found.young).difference(self._record.kept):
                self._record.choice[closing.KEPT] = sorted(young.union(self._record.kept))
                refuse_many(day, self._record.kept, using=self._using)
            operation.touched += found.number - _inside(self._record, found.last)
            operation.cursor = found.last
            failpoints.reach(failpoints.IN_SLICE)
        return True

    def _archive_slice(self, day: Day, archive: Archive) -> bool:
        """Archive the next events, apart from the kept ones; return False at the end of the day."""
        with self._record.changing() as operation:
            after = operation.cursor
            last = last_of(day, after, number=self._pace.batch, using=self._using)
            if last is None:
                self._record.begin(records.EMPTYING)
                return False
            inside = [seq for seq in self._record.kept if after < seq <= last]
            archive_span(Span(after, last, inside), archive, using=self._using)
            operation.cursor = last
            failpoints.reach(failpoints.IN_SLICE)
        return True

    def _empty(self, day: Day, by: str) -> None:
        record = self._record
        empty(
            day,
            record.kept,
            begin=self._begin,
            end=self._finish,
            further=unsettled_in(day),
            tries=self._tries,
            using=self._using,
        )
        failpoints.reach(failpoints.AFTER_EMPTYING)
        number = record.operation.touched
        text = "%s removed %d events of %s. %d stay."
        logger.info(text, by, number, day.label, len(record.kept))
        self._pace.removed += number

    def _begin(self) -> None:
        self._record.lock()
        if self._record.step != records.EMPTYING:
            raise Postponed

    def _finish(self, emptied: Emptied) -> None:
        """Store the remaining work, in the transaction that empties the day."""
        self._record.operation.touched -= len(emptied.staying.difference(self._record.kept))
        self._record.choice[closing.KEPT] = sorted(emptied.staying)
        self._record.choice[records.LEFT] = [list(one) for one in left_by(emptied)]
        self._record.begin(records.SWEEPING)
        self._record.save()

    def _sweep_page(self) -> bool:
        """Delete the next rows that removed events have left; return False at the end."""
        with self._record.changing():
            left = [Left(*one) for one in self._record.choice[records.LEFT]]
            if not left:
                self._record.finish()
                return False
            rest = sweep(left[0], using=self._using)
            self._record.choice[records.LEFT] = [list(one) for one in (rest, *left[1:]) if one]
        return True


def _inside(record: Record, last: int) -> int:
    """Return the number of the kept events of the next slice."""
    return sum(record.operation.cursor < seq <= last for seq in record.kept)
