"""Backfill: give a handler the events that were told before it listened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced

from django.db.models import Exists, Max, OuterRef, QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.models import Delivery, Event, Operation, Subscription

from .choice import Choice
from .handlers import subscriptions_of
from .operations import Report, begin, carry_out

logger = logging.getLogger("outbox.actions")

State = Delivery.State

#: Deliveries in a second, where nobody says otherwise: live traffic has the workers too.
BACKFILL_RATE = 100.0


def backfill(
    choice: Choice,
    *,
    by: str,
    reason: str,
    rate: float | None = BACKFILL_RATE,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """Make the deliveries that a handler lacks, of the events that were fanned out without it.

    Oldest first. At no time are more than half of the handler's window of its deliveries under way
    or due because of this, so that what is told meanwhile finds room and is sent at once.

    Args:
        choice: the handler, and which of its events; ids and states mean nothing here.
        by: who wants it.
        reason: why, for the log.
        rate: most deliveries in a second; None: as fast as the handler goes.
        report: is told after each step how far it is, and what it waits for.
        using: the outbox's database alias.

    Returns:
        The record of it; `touched` says how many deliveries were made.

    Raises:
        UnknownHandler: no subscription has this handler.
        CannotBackfill: the handler is paused, has ended, or no code has it.
    """
    using = using or databases.alias()
    task = Backfill(choice, using)
    task.refuse_what_is_held()
    rows = missing(choice, using=using)
    operation = begin(
        Operation.Action.BACKFILL,
        choice.as_json(),
        by=by,
        reason=reason,
        expected=sum(events.count() for _row, events in rows),
        until=Event.objects.using(using).aggregate(last=Max("seq"))["last"] or 0,
        rate=rate,
        using=using,
    )
    return carry_out(operation, task, report=report, using=using)


class CannotBackfill(ValueError):
    """The handler would not be given what is made for it."""


def missing(
    choice: Choice, *, using: str | None = None
) -> list[tuple[Subscription, QuerySet[Event]]]:
    """Return for each of the handler's subscriptions the events that it was never owed."""
    using = using or databases.alias()
    rows = subscriptions_of(choice.handler, using=using).order_by("id")
    if choice.event:
        rows = rows.filter(event=choice.event)
    return [(row, _missing(row, choice, using=using)) for row in rows]


def _missing(row: Subscription, choice: Choice, *, using: str) -> QuerySet[Event]:
    its = Delivery.objects.using(using).filter(event=OuterRef("pk"), subscription=row)
    told = replaced(choice, event=row.event).events(using=using)
    return told.filter(~Exists(its), fanned_out_at__isnull=False)


@dataclass(frozen=True)
class Backfill:
    """A handler's backfill, a slice at a time."""

    choice: Choice
    using: str

    def find(self, *, after: int, until: int, limit: int) -> Sequence[int]:
        """Return the next events' seqs, of whatever subscription, as far as there is room."""
        # Live events may have filled the window since `hindrance` looked; to find none would be
        # the end of it, so one more than there is room for is made.
        most = min(limit, max(1, self._room()))
        found: set[int] = set()
        for _row, events in missing(self.choice, using=self.using):
            nearer = events.filter(seq__gt=after, seq__lte=until).order_by("seq")
            found.update(nearer.values_list("seq", flat=True)[:most])
        return sorted(found)[:most]

    def touch(self, pks: Sequence[int], operation: Operation) -> int:
        """Make the deliveries. The events are locked, so that nothing prunes them meanwhile."""
        made = 0
        note = f"backfilled by {operation.by}"[:300]
        for row, events in missing(self.choice, using=self.using):
            locked = events.filter(seq__in=pks).order_by("seq").select_for_update(of=("self",))
            born = [
                Delivery(
                    event=event,
                    subscription=row,
                    due_at=clock.now(using=self.using),
                    note=note,
                    order_key=event.key if row.ordered else None,
                )
                for event in locked
            ]
            # A relay or another backfill may be quicker; then it is owed already.
            Delivery.objects.using(self.using).bulk_create(born, ignore_conflicts=True)
            made += len(born)
        logger.info("%s backfilled %s: %d", operation.by, self.choice.handler, made)
        return made

    def hindrance(self) -> str:
        """Wait while half of a window is due or under way."""
        if self._room() > 0:
            return ""
        return _("%(handler)s has half of its window in hand") % {"handler": self.choice.handler}

    def refuse_what_is_held(self) -> None:
        """Raise `CannotBackfill` where the deliveries would not be sent."""
        for row in subscriptions_of(self.choice.handler, using=self.using):
            if row.is_held or not row.active:
                raise CannotBackfill(
                    f"{row.handler} is paused, unknown to the code that was last migrated, or has "
                    "ended: what was made for it now would only lie there. Let it run first."
                )

    def _room(self) -> int:
        """Say how many more may be under way at once, over all of the handler's subscriptions."""
        rows = subscriptions_of(self.choice.handler, using=self.using)
        owed = Delivery.objects.using(self.using).filter(
            subscription__in=list(rows.values_list("pk", flat=True))
        )
        half = max(1, min(row.window_now for row in rows) // 2)
        used = 0
        for state in (State.PENDING, State.SENT, State.PARKED, State.BLOCKED):
            used += owed.filter(state=state).values("pk")[: half + 1].count()
        return half - used
