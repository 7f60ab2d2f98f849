"""Pause a handler, where its own backfill may have paused it before.

A person or a rule takes over the pause of a backfill, so the end of the backfill does not resume
the handler. The time of the pause stays: by it the backfill knows that nobody has resumed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import DateTimeField, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from outbox import clock
from outbox.models import Operation, Subscription
from outbox.wording import moment, one_line


def pausable(rows: QuerySet[Subscription]) -> QuerySet[Subscription]:
    """Return the subscriptions that run, and those that a backfill has paused."""
    own = Q(paused_by__startswith=Subscription.PAUSED_BY_BACKFILL)
    return rows.filter(Q(paused_at=None) | own)


def pause_values(*, by: str, reason: str, using: str) -> dict[str, Any]:
    """Return what to store in `pausable` rows."""
    now = Value(clock.now(using=using), output_field=DateTimeField())
    at = Coalesce(F("paused_at"), now)
    return {"paused_at": at, "paused_by": by[:150], "pause_reason": reason}


def holder(operation: Operation) -> str:
    """Return the `paused_by` of a handler that its backfill has paused."""
    return f"{Subscription.PAUSED_BY_BACKFILL}{operation.pk}"


def is_held_by(row: Subscription, operation: Operation) -> bool:
    """Return whether a handler has been paused since its backfill has paused it."""
    # Whoever took the pause over has left its time.
    return row.paused_by == holder(operation) or row.paused_at == operation.started_at


def unfinished_backfills(*, using: str) -> list[Operation]:
    """Return the backfills that are not finished, in one read."""
    running = Operation.objects.using(using).filter(state=Operation.State.RUNNING)
    return list(running.filter(action=Operation.Action.BACKFILL).order_by("id"))


def holding_backfill(rows: Iterable[Subscription], *, using: str) -> Operation | None:
    """Return the unfinished backfill for which one of a handler's subscriptions is paused."""
    paused = [row for row in rows if row.paused_at is not None]
    unfinished = unfinished_backfills(using=using) if paused else []
    found = (one for one in unfinished if any(is_held_by(row, one) for row in paused))
    return next(found, None)


def held_pause_text(handler: str, backfill: Operation, *, by: str, reason: str) -> str:
    """Return `held_text`, after who has taken the pause over from the backfill, and why."""
    held = held_text(handler, backfill)
    if by.startswith(Subscription.PAUSED_BY_BACKFILL):
        return held
    text = _("%(by)s paused %(handler)s (%(reason)s), and %(held)s")
    return text % {
        "by": by or _("someone"),
        "handler": handler,
        "reason": one_line(reason) or _("no reason was given"),
        "held": held,
    }


def held_text(handler: str, backfill: Operation) -> str:
    """Return what a person must know of a handler that an unfinished backfill holds.

    It begins in lower case, to follow a colon or an "and".
    """
    text = _(
        "the backfill of %(handler)s (operation %(number)d, last sign of life %(seen)s) holds it "
        "until it is complete. If that process was killed: `manage.py outbox go-on %(number)d`. "
        "Do not resume it."
    )
    return text % {"handler": handler, "number": backfill.pk, "seen": moment(backfill.seen_at)}
