"""Delayed events: stored now, emitted when due. Until then they can be cancelled."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.apps import apps
from django.db import connections
from django.db.models import QuerySet

from outbox import databases, tracing
from outbox.deduplication import forget
from outbox.deliveries.key_locks import lock_free_keys
from outbox.subscriptions import is_ordered_event

if TYPE_CHECKING:
    from outbox.models import DelayedEvent

_FACTS = (
    "id",
    "name",
    "version",
    "key",
    "subject",
    "share",
    "payload",
    "correlation_id",
    "causation_id",
    "emitted_by",
    "actor",
    "tenant",
)


def cancel_delayed(event_id: UUID, *, using: str | None = None) -> bool:
    """Cancel an event that was emitted with a delay, in the caller's transaction if one is open.

    Its `dedupe_key` may be used again.

    Args:
        event_id: the id that `emit` returned.
        using: the alias of the event's database. None: the one that `emit` would choose.

    Returns:
        True if it is cancelled now. False if it was emitted or cancelled before.

    Raises:
        SeveralTransactions: `using` is None, and several databases with an outbox have an open
            transaction.
        UnlistedDatabase: the given database has no outbox.
    """
    model = apps.get_model("outbox", "DelayedEvent")
    rows = model._default_manager.using(databases.for_emit(using))
    deleted, _ = rows.filter(pk=event_id).delete()
    if deleted:
        forget([event_id], using=rows.db)
    return bool(deleted)


def due(now: datetime, *, using: str) -> QuerySet[DelayedEvent]:
    """Return the delayed events that are due, the longest due first."""
    model = apps.get_model("outbox", "DelayedEvent")
    rows: QuerySet[DelayedEvent] = model._default_manager.using(using)
    return rows.filter(due_at__lte=now).order_by("due_at", "id")


def emit_due(now: datetime, *, at_most: int, using: str) -> None:
    """Store due delayed events as events, with a new `seq`, in the caller's transaction.

    If order matters and another transaction emits for the same key now, a later pass emits it.
    """
    emitted = _lock_due(now, at_most=at_most, using=using)
    if not emitted:
        return
    event = apps.get_model("outbox", "Event")
    facts = (
        {
            **{name: getattr(row, name) for name in _FACTS},
            **tracing.delayed_emission(row),
        }
        for row in emitted
    )
    event._default_manager.using(using).bulk_create(
        [event(emitted_at=now, **values) for values in facts]
    )
    due(now, using=using).filter(pk__in=[row.pk for row in emitted]).delete()


def _lock_due(now: datetime, *, at_most: int, using: str) -> list[DelayedEvent]:
    """Lock and return the next due events; leave out ordered ones of a key in use.

    A key is in use if another transaction emits for it. Each page after the first leaves out the
    keys in use, so there are at most as many further pages as such keys.
    """
    ordered: set[str] = set()
    found: list[DelayedEvent] = []
    in_use: set[str] = set()
    while True:
        room = at_most - len(found)
        rows = due(now, using=using).select_for_update(skip_locked=True)
        if in_use:
            rows = rows.exclude(name__in=ordered, key__in=in_use)
            rows = rows.exclude(pk__in=[row.pk for row in found])
        page = list(rows[:room])
        ordered |= {name for name in {row.name for row in page} if is_ordered_event(name)}
        keys = {row.key for row in page if row.name in ordered}
        locked = keys - lock_free_keys(keys, connection=connections[using])
        found += [row for row in page if row.name not in ordered or row.key not in locked]
        in_use |= locked
        if not locked or len(page) < room:
            return found
