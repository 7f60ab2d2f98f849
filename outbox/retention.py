"""Retention: the only way that events go, and only when nothing of them is owed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from .models import Attempt, Delivery, Event, Horizon

logger = logging.getLogger("outbox.actions")


def prune(
    *, older_than: timedelta, batch: int = 300, by: str = "unnamed", using: str = "default"
) -> int:
    """Remove old events of which nothing is owed, with their deliveries and attempts.

    Oldest first, each batch in a transaction of its own. An event that waits for fan-out, or has a
    delivery that is pending, sent, dead or parked, stays, however old.

    Args:
        older_than: the age, since they were emitted, from which events go.
        batch: most events in one transaction.
        by: who wants it.
        using: the outbox's database alias.

    Returns:
        How many events were removed.
    """
    before = timezone.now() - older_than
    _remember_horizon(before, using=using)
    slices = _old_events(before, batch=batch, using=using)
    removed = sum(_prune_some(seqs, before=before, using=using) for seqs in slices)
    logger.info("%s pruned %d events older than %s", by, removed, older_than)
    return removed


def prunable(*, before: datetime, using: str = "default") -> QuerySet[Event]:
    """Return the events emitted before a moment of which nothing is owed any more."""
    owed = Delivery.objects.using(using).filter(event=OuterRef("pk"), state__in=Delivery.OWED)
    old = Event.objects.using(using).filter(emitted_at__lt=before, fanned_out_at__isnull=False)
    return old.filter(~Exists(owed))


def _remember_horizon(before: datetime, *, using: str) -> None:
    """Commit first how far it goes: what is missing since then was pruned, and not lost."""
    with transaction.atomic(using=using):
        horizons = Horizon.objects.using(using)
        horizons.bulk_create([Horizon(emitted_before=before)], ignore_conflicts=True)
        horizons.filter(emitted_before__lt=before).update(emitted_before=before)


def _old_events(before: datetime, *, batch: int, using: str) -> Iterator[list[int]]:
    """Walk by seq, which follows the time of emission, up to a batch that has no old event.

    So the end is found without an index on the time, and without reading all that is young.
    """
    seq = 0
    while True:
        rows = Event.objects.using(using).filter(seq__gt=seq).order_by("seq")[:batch]
        found = list(rows.values_list("seq", "emitted_at"))
        old = [row[0] for row in found if row[1] < before]
        if not old:
            return
        yield old
        seq = found[-1][0]


def _prune_some(seqs: Sequence[int], *, before: datetime, using: str) -> int:
    with transaction.atomic(using=using):
        # No delivery can be added to a locked event; what it has is looked at again under the lock.
        settled = prunable(before=before, using=using).filter(seq__in=seqs)
        locked = set(settled.order_by("seq").select_for_update().values_list("seq", flat=True))
        deliveries = Delivery.objects.using(using).filter(event__in=locked)
        locked -= set(deliveries.filter(state__in=Delivery.OWED).values_list("event_id", flat=True))
        _remove(locked, using=using)
    return len(locked)


def _remove(seqs: Collection[int], *, using: str) -> None:
    """Delete in the order that foreign keys ask for.

    Raw, since nothing else refers to these rows, and Django's delete() would load each of them
    first: that held the write lock of SQLite several times as long.
    """
    deliveries = Delivery.objects.using(using).filter(event__in=seqs)
    Attempt.objects.using(using).filter(delivery__in=deliveries)._raw_delete(using)
    deliveries._raw_delete(using)
    Event.objects.using(using).filter(seq__in=seqs)._raw_delete(using)
