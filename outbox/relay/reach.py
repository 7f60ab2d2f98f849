"""The partitions that a relay's passes read: the newest, unless older ones have work.

PostgreSQL plans and locks each partition that a statement may read. The statements that find work
by state may read all of them. With a month of partitions this would take longer than the rest of a
pass. So passes read the partitions of the newest events, and every few seconds the relay looks for
work in the older ones. While there is some, its passes read all partitions.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import connections

from outbox import clock
from outbox.conf import conf
from outbox.deliveries.event_ranges import Range, within
from outbox.deliveries.statements import read
from outbox.partitions.ahead import CannotRead, last_seq
from outbox.partitions.catalogue import EVENT, UnknownPartition, partitions
from outbox.partitions.days import PER_DAY, day_at, first_seq

from .backlog import read_work

#: Seconds between two looks at older partitions. A look takes as long as a pass without a reach.
#: Deliveries of old events that staff retry or replay wait for the next one.
_LOOK_SECONDS = 10.0


class Reach:
    """The range of events that the passes of one relay read."""

    def __init__(self) -> None:
        self._events: Range | None = None
        self._look_at = 0.0

    def events(self, *, using: str) -> Range | None:
        """Return the range; None: read all, since there are no partitions, or old ones have work.

        Args:
            using: the outbox's database alias, always the same.
        """
        if not conf().PARTITION or connections[using].vendor != "postgresql":
            return None
        if time.monotonic() >= self._look_at:
            self._events = _look(clock.now(using=using), using=using)
            self._look_at = time.monotonic() + _LOOK_SECONDS
        return self._events


def newest(now: datetime, *, using: str) -> Range:
    """Return the range from the partition before that of the newest event to tomorrow.

    A transaction of the day before may still commit, and the sequence may jump to the present day.
    Without partitions of the present days, the newest event is in an earlier one.

    Raises:
        CannotRead: this role may not read the last number.
        UnknownPartition: somebody else created a partition.
    """
    day = (last_seq(using=using) + 1) // PER_DAY  # of the next event
    before = max(0, day - 1) * PER_DAY
    # The day before may have no partition: then its numbers are those of the latest one before.
    first = max((one.low for one in partitions(EVENT, using=using) if one.low <= before), default=0)
    coming = first_seq(day_at(now) + timedelta(days=2))
    return first, max(coming, (day + 2) * PER_DAY) - 1


def _look(now: datetime, *, using: str) -> Range | None:
    try:
        found = newest(now, using=using)
    except (CannotRead, UnknownPartition):  # the doctor reports it
        return None
    return None if _has_work_before(found[0], now, using=using) else found


def _has_work_before(seq: int, now: datetime, *, using: str) -> bool:
    """Return whether the relay has something to do for events before this one.

    Deliveries in flight count, since a pass has to count them for the window.
    """
    if not seq:
        return False
    older = (0, seq - 1)
    if read(f"{_WAITING}{within(older, 'seq')} ORDER BY seq LIMIT 1", using=using):
        return True
    work = read_work(now, reach=older, using=using)
    return any(one.is_any or one.in_flight for one in work.values())


_WAITING = "SELECT seq FROM outbox_event WHERE fanned_out_at IS NULL"
