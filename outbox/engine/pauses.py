"""Pause a handler, where its own backfill may have paused it before.

A person or a rule takes over the pause of a backfill, so the end of the backfill does not resume
the handler. The time of the pause stays: by it the backfill knows that nobody has resumed it.
"""

from __future__ import annotations

from typing import Any

from django.db.models import DateTimeField, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from outbox import clock
from outbox.models import Subscription


def pausable(rows: QuerySet[Subscription]) -> QuerySet[Subscription]:
    """Return the subscriptions that run, and those that a backfill has paused."""
    own = Q(paused_by__startswith=Subscription.PAUSED_BY_BACKFILL)
    return rows.filter(Q(paused_at=None) | own)


def pause_values(*, by: str, reason: str, using: str) -> dict[str, Any]:
    """Return what to store in `pausable` rows."""
    now = Value(clock.now(using=using), output_field=DateTimeField())
    at = Coalesce(F("paused_at"), now)
    return {"paused_at": at, "paused_by": by[:150], "pause_reason": reason}
