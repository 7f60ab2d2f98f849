"""Retention: the only way that events go, and only when nothing of them is owed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction

from outbox import clock, databases
from outbox.conf import conf
from outbox.models import Event, Horizon

from .archive import archive_in
from .batches import look, prunable, prune_some

__all__ = ["countable", "horizons", "prunable", "prune"]

logger = logging.getLogger("outbox.operations")

#: Events in one transaction.
BATCH = 25

#: Batches for which events are looked up at a time.
LOOK = 10

#: How many times as long as a batch took it rests.
REST = 2


def prune(
    *,
    older_than: timedelta | None = None,
    archive: str | Path | None = None,
    at_most: timedelta | None = None,
    batch: int = BATCH,
    by: str = "unnamed",
    using: str | None = None,
) -> int:
    """Remove old events of which nothing is owed, with their deliveries and attempts.

    Event type by event type, the oldest first, each batch in a transaction of its own; after each
    it rests twice as long as that took, so that others have most of the time. An event that
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
    using = using or databases.alias()
    folder = conf().ARCHIVE if archive is None else archive
    until = time.monotonic() + at_most.total_seconds() if at_most is not None else float("inf")
    removed = 0
    with archive_in(folder) if folder else nullcontext() as store:
        for name, before in horizons(older_than=older_than, using=using):
            if time.monotonic() > until:
                break
            _remember_horizon(before, using=using)
            for seqs in _batches(name, before, batch=batch, using=using):
                if time.monotonic() > until:
                    break
                removed += prune_some(seqs, before=before, archive=store, using=using)
    what = "by OUTBOX['RETENTION']" if older_than is None else f"older than {older_than}"
    logger.info("%s pruned %d events %s", by, removed, what)
    return removed


def horizons(
    *, older_than: timedelta | None = None, using: str | None = None
) -> Iterator[tuple[str, datetime]]:
    """Yield each stored event type that is not kept for ever, and before when its events go."""
    using = using or databases.alias()
    retention, now = conf().RETENTION, clock.now(using=using)
    for name in _names(using=using):
        days = retention.get(name, retention.get("default"))
        if older_than is not None:
            yield name, now - older_than
        elif days is not None:
            yield name, now - timedelta(days=days)


def countable(*, older_than: timedelta | None = None, using: str | None = None) -> int:
    """Return how many events `prune` would remove now."""
    using = using or databases.alias()
    ages = horizons(older_than=older_than, using=using)
    return sum(
        prunable(before=before, using=using).filter(name=name).count() for name, before in ages
    )


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


def _batches(name: str, before: datetime, *, batch: int, using: str) -> Iterator[Sequence[int]]:
    """Walk one type by seq, which follows the time of emission, to a look that has no old event.

    So the end is found by the index of name and seq, without one on the time, and without reading
    other types or all that is young. Rests after each batch; one is empty where a whole look is
    owed, so that the caller can look at the time.
    """
    seq, began = 0, time.monotonic()
    while found := look(name, seq, before=before, number=LOOK * batch, using=using):
        for seqs in _parts(found.prunable, batch):
            yield seqs
            time.sleep(REST * (time.monotonic() - began))
            began = time.monotonic()
        seq = found.until


def _parts(seqs: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield parts of this size, the last one smaller; a single empty one of nothing."""
    for start in range(0, max(len(seqs), 1), size):
        yield seqs[start : start + size]
