"""Keep an ordered handler paused while its backfill creates deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from outbox.deliveries import settlement
from outbox.deliveries.pauses import holder, holding_backfill, is_held_by, pausable
from outbox.formatting import format_time
from outbox.models import Delivery, Operation, Subscription
from outbox.monitor.people import name_of
from outbox.monitor.stops import stop_of

from .handler_rows import subscriptions_of, without_removed
from .handlers import end_pause

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

    def refuse_other(self, *, than: Mapping[str, Any] | None = None) -> None:
        """Raise `CannotBackfill` if another backfill has paused the handler and is not finished.

        Args:
            than: the stored choice of a backfill that would end an unfinished one of this choice.
        """
        other = self._unfinished()
        if other is not None and other.choice != than:
            raise CannotBackfill(
                _(
                    "Another backfill of %(handler)s is not finished: operation "
                    "%(pk)s, by %(by)s, last heartbeat %(seen_at)s. Finish it: "
                    "`manage.py outbox continue %(pk)s`. Or end it: `manage.py outbox "
                    "continue %(pk)s --give-up`."
                )
                % {
                    "handler": self.handler,
                    "pk": other.pk,
                    "by": name_of(other.by),
                    "seen_at": format_time(other.seen_at),
                }
            )

    def begin(self, operation: Operation) -> None:
        """Pause the handler, or raise `CannotBackfill`.

        It takes over the pause of a finished backfill that did not resume the handler. Backfills
        of older releases could die before that.
        """
        self.refuse_other()
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
                _(
                    "%(handler)s was resumed before its backfill was complete, so new "
                    "events may have overtaken old ones. End it: `manage.py outbox "
                    "continue %(pk)s --give-up`. Then start a backfill of the missing "
                    "events."
                )
                % {"handler": self.handler, "pk": operation.pk}
            )

    def running(self) -> str:
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
        return _("a worker runs deliveries of %(handler)s") % {"handler": self.handler}

    def _rows(self) -> QuerySet[Subscription]:
        return without_removed(subscriptions_of(self.handler, using=self.using))

    def _unfinished(self) -> Operation | None:
        """Return an unfinished backfill that has paused the handler."""
        own = self._rows().filter(paused_by__startswith=_PREFIX)
        numbers = [by.removeprefix(_PREFIX) for by in own.values_list("paused_by", flat=True)]
        running = Operation.objects.using(self.using).filter(state=Operation.State.RUNNING)
        return running.filter(pk__in=[one for one in numbers if one.isdecimal()]).first()

    def _refuse(self, row: Subscription) -> None:
        stop = stop_of(row, holding_backfill([row], using=self.using))
        why = f": {stop.text}" if stop else "."
        raise CannotBackfill(
            _("%(handler)s cannot be backfilled, because its deliveries would not be sent%(why)s")
            % {"handler": self.handler, "why": why}
        )
