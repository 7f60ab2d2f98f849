"""Retention: the only way that events go, and only when nothing of them is owed."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from outbox.conf import conf
from outbox.models import Attempt, Delivery, Event, Horizon

from .archive import Archive, archive_in

logger = logging.getLogger("outbox.actions")


def prune(
    *,
    older_than: timedelta | None = None,
    archive: str | Path | None = None,
    at_most: timedelta | None = None,
    batch: int = 300,
    by: str = "unnamed",
    using: str = "default",
) -> int:
    """Remove old events of which nothing is owed, with their deliveries and attempts.

    Event type by event type, the oldest first, each batch in a transaction of its own; after each
    it rests as long as that took, so that others have at least half of the time. An event that
    waits for fan-out, or has a delivery that is not settled, stays, however old.

    Args:
        older_than: the age, since they were emitted, from which events of all types go; None: each
            type's own, `OUTBOX["RETENTION"]`. A type that has none there is kept.
        archive: the folder where what goes is written to first; None: `OUTBOX["ARCHIVE"]`; "": it
            is written nowhere.
        at_most: how long this may take; what is left goes the next time.
        batch: most events in one transaction.
        by: who wants it.
        using: the outbox's database alias.

    Returns:
        How many events were removed.
    """
    folder = conf().ARCHIVE if archive is None else archive
    until = time.monotonic() + at_most.total_seconds() if at_most is not None else float("inf")
    removed = 0
    with archive_in(folder) if folder else nullcontext() as store:
        for name, before in horizons(older_than=older_than, using=using):
            _remember_horizon(before, using=using)
            for seqs in _old_events(name, before, batch=batch, using=using):
                if time.monotonic() > until:
                    break
                removed += _prune_some(seqs, before=before, archive=store, using=using)
    what = "by OUTBOX['RETENTION']" if older_than is None else f"older than {older_than}"
    logger.info("%s pruned %d events %s", by, removed, what)
    return removed


def horizons(
    *, older_than: timedelta | None = None, using: str = "default"
) -> Iterator[tuple[str, datetime]]:
    """Yield each stored event type that is not kept for ever, and before when its events go."""
    retention, now = conf().RETENTION, timezone.now()
    for name in _names(using=using):
        days = retention.get(name, retention.get("default"))
        if older_than is not None:
            yield name, now - older_than
        elif days is not None:
            yield name, now - timedelta(days=days)


def countable(*, older_than: timedelta | None = None, using: str = "default") -> int:
    """Return how many events `prune` would remove now."""
    ages = horizons(older_than=older_than, using=using)
    return sum(
        prunable(before=before, using=using).filter(name=name).count() for name, before in ages
    )


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


def _names(*, using: str) -> Iterator[str]:
    """Yield the names of stored events: one look into their index for each, none at the rows."""
    name: str | None = ""
    rows = Event.objects.using(using).order_by("name").values_list("name", flat=True)
    while name := rows.filter(name__gt=name).first():
        yield name


def _old_events(name: str, before: datetime, *, batch: int, using: str) -> Iterator[list[int]]:
    """Walk one type by seq, which follows the time of emission, to a batch that has no old event.

    So the end is found by the index of name and seq, without one on the time, and without reading
    other types or all that is young.
    """
    seq, began = 0, time.monotonic()
    while True:
        rows = Event.objects.using(using).filter(name=name, seq__gt=seq).order_by("seq")[:batch]
        found = list(rows.values_list("seq", "emitted_at"))
        old = [row[0] for row in found if row[1] < before]
        if not old:
            return
        yield old
        seq = found[-1][0]
        time.sleep(time.monotonic() - began)
        began = time.monotonic()


def _prune_some(
    seqs: Sequence[int], *, before: datetime, archive: Archive | None, using: str
) -> int:
    with transaction.atomic(using=using):
        # No delivery can be added to a locked event; what it has is looked at again under the lock.
        settled = prunable(before=before, using=using).filter(seq__in=seqs)
        locked = set(settled.order_by("seq").select_for_update().values_list("seq", flat=True))
        deliveries = Delivery.objects.using(using).filter(event__in=locked)
        locked -= set(deliveries.filter(state__in=Delivery.OWED).values_list("event_id", flat=True))
        if archive:
            archive.add(list(Event.objects.using(using).filter(seq__in=locked).order_by("seq")))
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
