"""The closed day: the one whose events are being removed. Nothing makes them owed again.

The mark is a running `Operation`, so processes need no further table, and a removal that was
interrupted continues. It is set under `lock_subscriptions`. Code that makes settled deliveries
owed, or adds deliveries to an event that was fanned out, reads it after `share_subscriptions`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox.conf import conf
from outbox.models import Delivery, Event, Operation

from .days import day_of, start_of

#: Keys of the operation's choice. `LOW` is in the choice of a removal of a day only.
LOW, HIGH, KEPT = "low", "high", "kept"
#: Events at the end of a day that are read to find the latest time.
_LAST_EVENTS = 1000


class DayIsClosed(ValueError):
    """The events are being removed, so they cannot be replayed or backfilled now."""


@dataclass(frozen=True)
class ClosedDay:
    """The day whose events are being removed.

    Attributes:
        operation: the id of its operation.
        low: the first `seq` of its range.
        high: the first `seq` after its range.
        kept: the `seq` of its events that stay. They are not closed.
    """

    operation: int
    low: int
    high: int
    kept: Collection[int] = frozenset()

    @classmethod
    def of(cls, operation: Operation) -> ClosedDay:
        """Return the day that an operation removes."""
        choice = operation.choice
        return cls(operation.pk, choice[LOW], choice[HIGH], frozenset(choice.get(KEPT, ())))

    def covers(self, seq: int) -> bool:
        """Return whether an event is closed."""
        return self.low <= seq < self.high and seq not in self.kept

    def of_deliveries(self, rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Return those deliveries whose events are closed."""
        inside = rows.filter(event__gte=self.low, event__lt=self.high)
        return inside.exclude(event__in=self.kept) if self.kept else inside

    def of_events(self, rows: QuerySet[Event]) -> QuerySet[Event]:
        """Return those events that are closed."""
        inside = rows.filter(seq__gte=self.low, seq__lt=self.high)
        return inside.exclude(seq__in=self.kept) if self.kept else inside

    def refuse(self, *, using: str) -> DayIsClosed:
        """Return the error for an operation on closed events, with a time that leaves them out."""
        text = _(
            "The events of %(day)s are being removed by operation %(number)d, so they cannot be "
            "replayed or backfilled now. Leave them out with --since %(since)s. Or wait until "
            "`manage.py outbox log` shows that the operation has ended. Or end it, and pruning "
            "begins it again later: `manage.py outbox continue %(number)d --give-up`."
        )
        facts = {"day": label(self.low, self.high), "number": self.operation}
        return DayIsClosed(text % {**facts, "since": self._end(using=using)})

    def _end(self, *, using: str) -> str:
        """Return a time (UTC) from which on none of its events was emitted.

        It has events of the next day, since the sequence jumps some time after midnight. `seq`
        follows the time of emission nearly, so the latest one is among the last events.
        """
        inside = Event.objects.using(using).filter(seq__gte=self.low, seq__lt=self.high)
        times = inside.order_by("-seq").values_list("emitted_at", flat=True)[:_LAST_EVENTS]
        second = timedelta(seconds=1)
        seconds = [(at.astimezone(UTC) + second).replace(microsecond=0) for at in times]
        midnight = start_of(self.high)
        end = max([*seconds, midnight])
        return end.strftime("%Y-%m-%d" if end == midnight else "%Y-%m-%dT%H:%M:%S")


def label(low: int, high: int) -> str:
    """Return the name of a partition's days: "2026-11-29", or "the days before 2026-11-29"."""
    day = day_of(low)
    if day is not None and day_of(high - 1) == day:
        return day.isoformat()
    return _("the days before %(day)s") % {"day": day_of(high)}


def closed_day(*, using: str) -> ClosedDay | None:
    """Return the closed day, or None. Without `OUTBOX["PARTITION"]` it reads nothing."""
    if not conf().PARTITION:
        return None
    operation = removal(using=using)
    return ClosedDay.of(operation) if operation is not None else None


def removal(*, using: str) -> Operation | None:
    """Return the operation that removes a day, or None. There is one at a time."""
    running = Operation.objects.using(using).filter(state=Operation.State.RUNNING)
    pruning = running.filter(action=Operation.Action.PRUNE).order_by("id")
    return next((one for one in pruning if is_removal(one.choice)), None)


def is_removal(choice: Mapping[str, Any]) -> bool:
    """Return whether an operation with this choice removes a day."""
    return LOW in choice
