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
    """The pause of a handler by its own backfill. Its time is the start of the operation."""

    handler: str
    using: str

    @property
    def is_ordered(self) -> bool:
        """Whether the handler is ordered. Only ordered handlers are paused."""
        return any(row.ordered for row in self._rows())

    def refuse_held(self) -> None:
        """Raise `CannotBackfill` if the deliveries would not be sent."""
        for row in self._rows():
            is_own = row.paused_by.startswith(_PREFIX) and row.ordered
            is_paused = row.paused_at is not None and not is_own
            if is_paused or not row.known or not row.active:
                self._refuse(row)

    def begin(self, operation: Operation) -> None:
        """Pause the handler, or raise `CannotBackfill`.

        It takes over the pause of a finished backfill that did not resume the handler. Backfills
        of older releases could die before that.
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
        if row := self._rows().exclude(paused_by=by).first():  # a person paused it first
            self._refuse(row)

    def end(self, operation: Operation) -> None:
        """Resume the handler, unless a person or rule has paused it meanwhile."""
        end_pause(self.handler, paused_by=holder(operation), using=self.using)

    def refuse_resumed(self, operation: Operation) -> None:
        """Raise `CannotBackfill` if an ordered handler was resumed meanwhile.

        Its subscriptions are locked, so it stays paused until the caller's transaction ends.
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
        """Park sent deliveries that have not started. Return a text while others run, or "".

        The handler is paused, but a worker may be starting a delivery now. The start updates the
        same row: either the worker sees the parked delivery, or this query sees the started one.
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
        """Return an unfinished backfill that has paused the handler."""
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
        """Return why a subscription's deliveries are not sent, and the next step."""
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
