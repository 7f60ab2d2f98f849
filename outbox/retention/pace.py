"""Size of batches and length of rests while events are pruned."""

from __future__ import annotations

import time
from collections.abc import Callable

from outbox import clock
from outbox.models import Delivery, Event

#: Events in one transaction while others use the outbox.
SMALLEST = 25
#: Most events in one transaction.
LARGEST = 2000
#: Seconds of a batch above which batches do not grow. On SQLite, a batch blocks all writers.
LONGEST_SECONDS = 0.1
#: The rest after a batch while others use the outbox, as a multiple of the batch's duration.
REST = 2
#: Seconds without work of others after which batches grow.
QUIET_SECONDS = 1.0
#: Seconds between two checks for work of others.
CHECK_SECONDS = 0.05


class Stopped(Exception):
    """Raised by `after_batch`: pruning ends after this batch."""


class Pace:
    """Batches of one size, and a rest after each.

    Attributes:
        batch: events in the next transaction.
        removed: the number of events that this run has removed.
        after_batch: called after each transaction, before the rest.
    """

    def __init__(self, batch: int, *, after_batch: Callable[[], object] = lambda: None) -> None:
        self.batch = batch
        self.removed = 0
        self.after_batch = after_batch

    def rest_after(self, seconds: float) -> float:
        """Return the seconds to rest after a batch that has taken `seconds`."""
        self.after_batch()
        return REST * seconds


class AdaptivePace(Pace):
    """Small batches and long rests while others use the outbox; otherwise larger ones, no rests.

    Others use it if an event was emitted since the last check, or if a delivery is due or in
    flight. One sign is enough for small batches. Batches double while there has been none for
    `QUIET_SECONDS`, and a batch takes less than `LONGEST_SECONDS`.

    Args:
        using: the outbox's database alias.
        after_batch: called after each batch, before the rest.
    """

    def __init__(self, *, using: str, after_batch: Callable[[], object] = lambda: None) -> None:
        super().__init__(SMALLEST, after_batch=after_batch)
        self._using = using
        self._newest = self._read_newest()
        self._busy_at = self._checked_at = time.monotonic()

    def rest_after(self, seconds: float) -> float:
        """Choose the size of the next batch; return the seconds to rest before it."""
        rest = super().rest_after(seconds)
        self._check()
        if time.monotonic() - self._busy_at < QUIET_SECONDS:
            self.batch = SMALLEST
            return rest
        if seconds > LONGEST_SECONDS:
            self.batch = max(self.batch // 2, SMALLEST)
        elif seconds < LONGEST_SECONDS / 2:
            self.batch = min(self.batch * 2, LARGEST)
        return 0.0

    def _check(self) -> None:
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return
        newest = self._read_newest()
        if newest != self._newest or self._is_work_due():
            self._busy_at = time.monotonic()
        self._newest, self._checked_at = newest, time.monotonic()

    def _read_newest(self) -> int | None:
        events = Event.objects.using(self._using).order_by("-seq")
        return events.values_list("seq", flat=True).first()

    def _is_work_due(self) -> bool:
        rows, now = Delivery.objects.using(self._using), clock.now(using=self._using)
        due = rows.filter(state=Delivery.State.PENDING, due_at__lte=now)
        return due.exists() or rows.filter(state=Delivery.State.SENT).exists()
