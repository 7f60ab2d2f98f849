"""Pause a handler that its own backfill may have paused before.

Staff or a rule take over the pause of a backfill, so the end of the backfill does not resume the
handler. The time of the pause stays. It shows the backfill that nobody has resumed the handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import CharField, DateTimeField, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Cast, Coalesce, Concat
from django.utils.translation import gettext as _

from outbox import clock
from outbox.formatting import format_time, one_line
from outbox.models import Operation, Subscription


def pausable(rows: QuerySet[Subscription]) -> QuerySet[Subscription]:
    """Return the subscriptions that are not paused, and those that a backfill has paused."""
    own = Q(paused_by__startswith=Subscription.PAUSED_BY_BACKFILL)
    return rows.filter(Q(paused_at=None) | own)


def pause_values(*, by: str, reason: str, using: str) -> dict[str, Any]:
    """Return the column values that pause `pausable` rows."""
    now = Value(clock.now(using=using), output_field=DateTimeField())
    at = Coalesce(F("paused_at"), now)
    return {"paused_at": at, "paused_by": by[:150], "pause_reason": reason}


def holder(operation: Operation) -> str:
    """Return the `paused_by` of a handler that its backfill has paused."""
    return f"{Subscription.PAUSED_BY_BACKFILL}{operation.pk}"


def is_held_by(row: Subscription, operation: Operation) -> bool:
    """Return whether a handler has stayed paused since its backfill paused it."""
    # A takeover of the pause keeps its time.
    return row.paused_by == holder(operation) or row.paused_at == operation.started_at


def with_backfills(rows: QuerySet[Subscription]) -> QuerySet[Any]:
    """Annotate subscriptions with the unfinished backfill that holds them, in the same read.

    `backfill` is the number of its operation, `backfill_seen_at` its latest heartbeat.
    """
    its_holder = Concat(Value(Subscription.PAUSED_BY_BACKFILL), Cast("pk", CharField()))
    holding = _unfinished(using=rows.db).alias(holder=its_holder)
    holding = holding.filter(  # as `is_held_by`
        Q(holder=OuterRef("paused_by")) | Q(started_at=OuterRef("paused_at"))
    )
    return rows.annotate(
        backfill=Subquery(holding.values("pk")[:1]),
        backfill_seen_at=Subquery(holding.values("seen_at")[:1]),
    )


def holding_backfill(rows: Iterable[Subscription], *, using: str) -> Operation | None:
    """Return the unfinished backfill that holds one of a handler's subscriptions, if any."""
    paused = [row for row in rows if row.paused_at is not None]
    unfinished = _unfinished(using=using) if paused else ()
    found = (one for one in unfinished if any(is_held_by(row, one) for row in paused))
    return next(found, None)


def _unfinished(*, using: str) -> QuerySet[Operation]:
    running = Operation.objects.using(using).filter(state=Operation.State.RUNNING)
    return running.filter(action=Operation.Action.BACKFILL).order_by("id")


def public_pause_reason(row: Subscription) -> str:
    """Return the reason of a pause for people who may not see failures."""
    is_failure = row.paused_by.startswith(Subscription.PAUSED_BY_RULE)
    return hidden_text() if is_failure else row.pause_reason


def hidden_text() -> str:
    """Return the text in place of a failure's."""
    return _("not shown: it needs the permission to view deliveries")


def held_pause_text(handler: str, number: int, seen_at: datetime, *, by: str, reason: str) -> str:
    """Return `held_text`, preceded by the name and reason of a takeover of the pause."""
    held = held_text(handler, number, seen_at)
    if by.startswith(Subscription.PAUSED_BY_BACKFILL):
        return held
    text = _("%(by)s paused %(handler)s (%(reason)s), and %(held)s")
    return text % {
        "by": by or _("someone"),
        "handler": handler,
        "reason": one_line(reason) or _("no reason was given"),
        "held": held,
    }


def held_text(handler: str, number: int, seen_at: datetime) -> str:
    """Return the notice that an unfinished backfill holds a handler.

    It begins in lower case, to follow a colon or an "and".

    Args:
        handler: the handler's pinned name.
        number: number of the backfill's operation.
        seen_at: the operation's latest heartbeat.
    """
    text = _(
        "the backfill of %(handler)s (operation %(number)d, last heartbeat %(seen)s) holds it "
        "until it is complete. If that process was killed: `manage.py outbox go-on %(number)d`. "
        "Do not resume it."
    )
    return text % {"handler": handler, "number": number, "seen": format_time(seen_at)}
