"""Keep an ordered handler paused while its backfill creates deliveries."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from outbox.deliveries import settlement
from outbox.deliveries.pauses import held_pause_text, holder, holding_backfill, is_held_by, pausable
from outbox.formatting import format_time, one_line
from outbox.models import Delivery, Operation, Subscription

from .handlers import end_pause, subscriptions_of

State = Delivery.State

_PREFIX = Subscription.PAUSED_BY_BACKFILL


class CannotBackfill(ValueError):
    """The deliveries would not be sent, or would break the order of a key."""


@dataclass(frozen=True)
class Hold:
    """The pause of a handler by its own backfill. It has the time at which the operation began."""

    handler: str
    using: str

    @property
    def is_ordered(self) -> bool:
        """Whether the handler keeps each key in order. Another one is not paused."""
        return any(row.ordered for row in self._rows())

    def refuse_held(self) -> None:
        """Raise `CannotBackfill` where the deliveries would not be sent."""
        for row in self._rows():
            is_own = row.paused_by.startswith(_PREFIX) and row.ordered
            is_paused = row.paused_at is not None and not is_own
            if is_paused or not row.known or not row.active:
                self._refuse(row)

    def begin(self, operation: Operation) -> None:
        """Pause the handler, or raise `CannotBackfill`.

        It takes over the pause of a backfill that is over, whose process died before it resumed
        the handler; those of older releases could.
        """
        other = self._unfinished()
        if other is not None:
            raise CannotBackfill(
                f"Operation {other.pk}, by {other.by}, is another backfill of {self.handler}, and "
                f"is not finished (last sign of life {format_time(other.seen_at)}). Finish it by "
                f"`manage.py outbox go-on {other.pk}`, or end it by `manage.py outbox go-on "
                f"{other.pk} --give-up`."
            )
        by = holder(operation)
        pausable(self._rows()).update(
            paused_at=operation.started_at,
            paused_by=by,
            pause_reason=_("Its backfill is not complete."),
        )
        if row := self._rows().exclude(paused_by=by).first():  # a person was faster
            self._refuse(row)

    def end(self, operation: Operation) -> None:
        """Resume the handler, unless somebody else has paused it meanwhile."""
        end_pause(self.handler, paused_by=holder(operation), using=self.using)

    def refuse_resumed(self, operation: Operation) -> None:
        """Raise `CannotBackfill` where an ordered handler was not paused all the time.

        Nobody resumes it until the caller's transaction ends.
        """
        if not self.is_ordered:
            return
        rows = self._rows().order_by("pk").select_for_update(no_key=True)
        if not all(is_held_by(row, operation) for row in rows):
            raise CannotBackfill(
                f"{self.handler} was resumed before its backfill was complete, so new events may "
                f"have overtaken old ones. End this one by `manage.py outbox go-on {operation.pk} "
                "--give-up`, then start a backfill of what is still missing."
            )

    def in_hand(self) -> str:
        """Say that a worker may handle a later event, or ""; take back what none has started.

        The handler is paused, so nothing starts any more, but a start may be under way. It changes
        the same row: either it sees that the delivery is parked, or this sees that it has started.
        """
        sent = Delivery.objects.using(self.using).filter(
            subscription__in=list(self._rows()), state=State.SENT
        )
        with transaction.atomic(using=self.using):
            not_started = sent.filter(started_token__lt=F("token")).select_related("subscription")
            locked = not_started.order_by("pk").select_for_update(of=("self",), skip_locked=True)
            settlement.park(locked, using=self.using)
        if not sent.exists():
            return ""
        return _("a worker has deliveries of %(handler)s in hand") % {"handler": self.handler}

    def _rows(self) -> QuerySet[Subscription]:
        return subscriptions_of(self.handler, using=self.using)

    def _unfinished(self) -> Operation | None:
        """Return a backfill that has paused the handler and is not finished."""
        own = self._rows().filter(paused_by__startswith=_PREFIX)
        numbers = [by.removeprefix(_PREFIX) for by in own.values_list("paused_by", flat=True)]
        running = Operation.objects.using(self.using).filter(state=Operation.State.RUNNING)
        return running.filter(pk__in=[one for one in numbers if one.isdecimal()]).first()

    def _refuse(self, row: Subscription) -> None:
        raise CannotBackfill(
            f"{self.handler} gets no backfill, since nothing would send its deliveries: "
            f"{self._obstacle(row)}"
        )

    def _obstacle(self, row: Subscription) -> str:
        """Say why nothing is sent to a subscription, and what to do first."""
        if not row.active:
            return (
                f"its subscription to {row.event} has ended. `manage.py outbox resume "
                f"{row.handler}` makes it active again."
            )
        if not row.known:
            return (
                f"the code that was last migrated does not subscribe it to {row.event}. Deploy and "
                "migrate a release that does."
            )
        by, reason = row.paused_by, row.pause_reason
        backfill = holding_backfill([row], using=self.using)
        if backfill is not None:
            seen_at = backfill.seen_at
            return held_pause_text(row.handler, backfill.pk, seen_at, by=by, reason=reason)
        return (
            f"{by or 'someone'} paused it ({one_line(reason) or 'no reason was given'}). When the "
            f"reason is gone: `manage.py outbox resume {row.handler}`."
        )
