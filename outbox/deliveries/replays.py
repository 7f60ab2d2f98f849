"""Send settled deliveries again. Operations of staff, and missing settlements of consumers, do."""

from __future__ import annotations

from datetime import datetime

from django.db.models import OuterRef, QuerySet, Subquery

from outbox import clock
from outbox.models import Attempt, Delivery, Event, Subscription

from .attempts import NOTE_LENGTH


def replay(rows: QuerySet[Delivery], *, by: str, reason: str) -> None:
    """Make settled deliveries pending, and keep each receipt as an attempt.

    Args:
        rows: deliveries that the caller has locked.
        by: the person or process that replays.
        reason: the reason.
    """
    now = clock.now(using=rows.db)
    text = f"replayed by {by}: {reason}"
    receipts = [_receipt(row, text, now=now) for row in rows.order_by("pk")]
    Attempt.objects.using(rows.db).bulk_create(receipts)
    join_queue(rows)
    note = f"replayed by {by}"[:NOTE_LENGTH]
    rows.update(
        state=Delivery.State.PENDING,
        due_at=now,
        attempts=0,
        # It has not failed, so the index of failing deliveries must not contain it.
        started_token=0,
        settled_at=None,
        note=note,
    )


def join_queue(rows: QuerySet[Delivery]) -> None:
    """Put deliveries of ordered handlers back into the queue of their key."""
    ordered = Subscription.objects.using(rows.db).filter(ordered=True)
    key = Event.objects.using(rows.db).filter(pk=OuterRef("event")).values("key")
    pks = list(ordered.values_list("pk", flat=True))
    rows.filter(subscription__in=pks).update(order_key=Subquery(key))


def _receipt(row: Delivery, text: str, *, now: datetime) -> Attempt:
    settled = row.settled_at or now
    return Attempt(
        delivery=row,
        number=row.attempts,
        started_at=min(row.started_at or settled, settled),
        ended_at=settled,
        worker=row.worker,
        outcome=Attempt.Outcome.REPLAYED,
        message=f"{row.get_state_display()}, then {text}",
    )
