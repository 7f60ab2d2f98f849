"""Pause a handler that its own backfill may have paused before.

Staff or a rule take over the pause of a backfill, so the end of the backfill does not resume the
handler. The time of the pause stays. It shows the backfill that nobody has resumed the handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import CharField, DateTimeField, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Cast, Coalesce, Concat

from outbox import clock
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
