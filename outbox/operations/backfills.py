"""Backfill: create a handler's deliveries of events from before its subscription."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.deliveries.locks import share_subscriptions, wait_for_passes
from outbox.deliveries.pauses import holder
from outbox.models import Delivery, Event, Operation, Subscription

from .handler_rows import subscriptions_of, without_removed
from .holds import CannotBackfill, Hold
from .progress import Report, Touched, begin, carry_out, give_up, wait_while
from .selection import Choice

logger = logging.getLogger("outbox.operations")

State = Delivery.State

#: Default rate, in deliveries a second. Live traffic needs the workers too.
BACKFILL_RATE = 100.0
#: Most unsettled deliveries of a handler beside a backfill, if half of the window is less.
_MOST_UNSETTLED = 50


def backfill(
    choice: Choice,
    *,
    by: str,
    reason: str,
    rate: float | None = BACKFILL_RATE,
    in_order: bool = True,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """Create the deliveries that a handler lacks, of events that were fanned out without it.

    It begins with the oldest event. At most half of the handler's window is in flight or due
    because of the backfill. So new events find room and are sent at once. Deliveries that wait for
    their next attempt do not use the window. But a backfill waits while they are many, too: half of
    the window, or 50 if that is more. Of a corrected event, the original is delivered.

    An ordered handler is paused until all deliveries are created, so that no new event of a key
    overtakes an old one. It begins when no delivery of the handler is running. The last step
    resumes the handler, unless a person or a rule has paused it meanwhile. If the process is
    killed, the handler stays paused until `continue_operation`, `give_up`, the same backfill, or
    `resume` with `force`.

    Args:
        choice: the handler, and the events; ids and states are ignored.
        by: the person or process that starts the backfill.
        reason: the reason, for the log.
        rate: most deliveries a second; None: no limit. An ordered handler has no limit, since it
            is paused meanwhile.
        in_order: refuse the backfill if an ordered handler has handled a later event of a key.
            False: create the delivery of the older event all the same.
        report: called after each step with the operation and the reason for waiting.
        using: the outbox's database alias.

    Returns:
        The operation; `touched` is the number of deliveries that were created.

    Raises:
        UnknownHandler: no subscription has this handler.
        CannotBackfill: the handler is paused, ended or unknown to the code. Or another backfill of
            it is not finished. Or the order of a key would be broken. Or some of the events are
            being removed. If their removal begins later, the backfill waits for its end.
    """
    using = using or databases.alias()
    task = Backfill(choice, using, in_order=in_order)
    task.refuse()  # before the handler is paused; `begin` and `carry_out` check again afterwards
    operation = task.begin(by=by, reason=reason, rate=rate)
    return task.carry_out(operation, report=report)


def missing(
    choice: Choice, *, using: str | None = None
) -> list[tuple[Subscription, QuerySet[Event]]]:
    """Return each subscription of the handler with the events that it has no delivery of.

    Corrected events are left out, since each belongs to the handler that it was corrected for.
    """
    using = using or databases.alias()
    stored = without_removed(subscriptions_of(choice.handler, using=using))
    rows = list(stored.order_by("id"))
    if choice.event:
        rows = [row for row in rows if row.selects(choice.event)]
    return [(row, _missing(row, choice, using=using)) for row in rows]


def _missing(row: Subscription, choice: Choice, *, using: str) -> QuerySet[Event]:
    own = Delivery.objects.using(using).filter(event=OuterRef("pk"), subscription=row)
    events = choice.events(using=using).filter(row.events_condition())
    # A corrected event has its only delivery already, and other handlers have the original.
    return events.filter(~Exists(own), fanned_out_at__isnull=False, corrects=None)


@dataclass(frozen=True)
class Backfill:
    """A handler's backfill, carried out in slices."""

    choice: Choice
    using: str
    in_order: bool = True

    @property
    def hold(self) -> Hold:
        """The pause of the handler by this backfill."""
        return Hold(self.choice.handler, self.using)

    @classmethod
    def of(cls, operation: Operation, *, using: str) -> Backfill:
        """Return the backfill of a stored operation."""
        stored = dict(operation.choice)
        in_order = stored.pop("in_order", True)
        choice = Choice.from_json(stored)
        held = Subscription.objects.using(using).filter(paused_by=holder(operation)).first()
        if held is not None:  # a deploy may have renamed the handler
            choice = replaced(choice, handler=held.handler)
        return cls(choice, using, in_order=in_order)

    @property
    def stored(self) -> dict[str, Any]:
        """The choice and options, as the operation stores them."""
        return self.choice.as_json() | ({} if self.in_order else {"in_order": False})

    def begin(self, *, by: str, reason: str, rate: float | None) -> Operation:
        """Store the operation and pause an ordered handler, in one transaction."""
        # A pass that has not read the handler's subscriptions may not have stored its events yet.
        wait_for_passes(using=self.using)
        rows = missing(self.choice, using=self.using)
        with transaction.atomic(using=self.using):
            operation = begin(
                Operation.Action.BACKFILL,
                self.stored,
                by=by,
                reason=reason,
                expected=sum(events.count() for _row, events in rows),
                until=Event.objects.using(self.using).aggregate(last=Max("seq"))["last"] or 0,
                rate=None if self.hold.is_ordered else rate,
                using=self.using,
            )
            if self.hold.is_ordered:
                self.hold.begin(operation)
        return operation

    def find(self, *, after: int, until: int, limit: int) -> Sequence[int]:
        """Return the seqs of the next events, over all subscriptions, up to the free room."""
        # Live events may have filled the window since `reason_to_wait`. An empty result would
        # finish the operation, so at least one event is returned.
        most = limit if self.hold.is_ordered else min(limit, max(1, min(self._room())))
        found: set[int] = set()
        for _row, events in missing(self.choice, using=self.using):
            following = events.filter(seq__gt=after, seq__lte=until).order_by("seq")
            found.update(following.values_list("seq", flat=True)[:most])
        return sorted(found)[:most]

    def touch(self, pks: Sequence[int], operation: Operation) -> Touched:
        """Create the deliveries. The events are locked against pruning."""
        made = 0
        note = f"backfilled by {operation.by}"[:300]
        share_subscriptions(using=self.using)  # so that none of them ends
        self.hold.refuse_resumed(operation)
        # In one order for all subscriptions, since others lock events of several names in it.
        every = Event.objects.using(self.using).filter(seq__in=pks).order_by("seq")
        list(every.select_for_update().values_list("seq"))
        for row, events in missing(self.choice, using=self.using):
            if not row.active:
                continue
            created = [
                Delivery(
                    event=event,
                    subscription=row,
                    due_at=clock.now(using=self.using),
                    note=note,
                    order_key=event.key if row.ordered else None,
                    share=event.share if row.share_window else None,
                )
                for event in events.filter(seq__in=pks).order_by("seq")
            ]
            # A relay or another backfill may have created the delivery first.
            Delivery.objects.using(self.using).bulk_create(created, ignore_conflicts=True)
            made += len(created)
        logger.info("%s backfilled %s: %d", operation.by, self.choice.handler, made)
        return Touched(made, pks[-1])

    def carry_out(self, operation: Operation, *, report: Report | None = None) -> Operation:
        """Carry out the rest of the operation."""
        if self.in_order and self.hold.is_ordered and not operation.cursor:
            wait_while(self.hold.running, operation, report=report, using=self.using)
            try:
                self.refuse_disorder()
            except CannotBackfill:
                with transaction.atomic(using=self.using):
                    give_up(operation, using=self.using)
                    self.finish(operation)
                raise
        return carry_out(operation, self, report=report, using=self.using)

    def finish(self, operation: Operation) -> None:
        """Resume the handler, unless a person or rule has paused it meanwhile."""
        self.hold.end(operation)

    def refuse(self) -> None:
        """Raise `CannotBackfill` if it cannot begin now, as `backfill` does."""
        self.hold.refuse_held()
        self.hold.refuse_other(than=self.stored)
        self.refuse_disorder()

    def refuse_disorder(self) -> None:
        """Raise `CannotBackfill` if an ordered handler has handled a later event of a key."""
        if not self.in_order:
            return
        rows = subscriptions_of(self.choice.handler, using=self.using).values_list("pk", flat=True)
        deliveries = Delivery.objects.using(self.using).filter(subscription__in=list(rows))
        later = deliveries.filter(
            state=State.DONE, event__key=OuterRef("key"), event__seq__gt=OuterRef("seq")
        )
        for row, events in missing(self.choice, using=self.using):
            late = events.filter(Exists(later)).order_by("seq").first() if row.ordered else None
            if late is not None:
                raise CannotBackfill(
                    _(
                        "%(handler)s is ordered, and has handled an event of key %(key)s "
                        "that is later than %(name)s (%(id)s). To deliver such events out "
                        "of order, use --out-of-order. To leave them out, use --until."
                    )
                    % {"handler": row.handler, "key": late.key, "name": late.name, "id": late.id}
                )

    def reason_to_wait(self) -> str:
        """Return the reason to wait: its deliveries leave no room. Not for an ordered handler."""
        if self.hold.is_ordered:
            return ""
        of_window, of_unsettled = self._room()
        if of_window <= 0:
            text = _("deliveries of %(handler)s use half of its window")
        elif of_unsettled <= 0:
            text = _("too many deliveries of %(handler)s wait for their next attempt")
        else:
            return ""
        return text % {"handler": self.choice.handler}

    def _room(self) -> tuple[int, int]:
        """Return the free part of half a window, and how many more deliveries may be unsettled.

        Those that wait for their next attempt use no window: a single one would stop the backfill
        for hours where the window is 1. They are limited since new events wait behind them when all
        of them are due. Both numbers are over all subscriptions of the handler.
        """
        rows = list(subscriptions_of(self.choice.handler, using=self.using))
        owed = Delivery.objects.using(self.using).filter(subscription__in=[row.pk for row in rows])
        half = max(1, min(row.window_now for row in rows) // 2)
        most = max(half, _MOST_UNSETTLED)
        now = clock.now(using=self.using)
        pending = owed.filter(state=State.PENDING)
        using_window = [pending.filter(due_at__lte=now)]
        using_window += [
            owed.filter(state=state) for state in (State.SENT, State.PARKED, State.BLOCKED)
        ]
        used = sum(some.values("pk")[: half + 1].count() for some in using_window)
        later = pending.filter(due_at__gt=now).values("pk")[: most + 1].count()
        return half - used, most - used - later
