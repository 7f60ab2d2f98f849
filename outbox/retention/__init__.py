"""Retention: the only way to delete events. Events with owed deliveries stay."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction

from outbox import clock, databases
from outbox.conf import conf
from outbox.deduplication import forget_unused
from outbox.events import class_name_of
from outbox.models import Horizon

from .archive import Archive, archive_in
from .batches import next_name, prunable, prune_some, random_seq, read_slice
from .pace import LARGEST, REST, AdaptivePace, Pace, Stopped

__all__ = ["REST", "countable", "horizons", "prunable", "prune"]

logger = logging.getLogger("outbox.operations")

#: Batches whose events are read at a time, and the most events.
SLICE_BATCHES = 10
_SLICE = 2 * LARGEST


def prune(
    *,
    older_than: timedelta | None = None,
    archive: str | Path | None = None,
    at_most: timedelta | None = None,
    batch: int | None = None,
    after_batch: Callable[[], object] = lambda: None,
    by: str = "unnamed",
    using: str | None = None,
) -> int:
    """Remove old events without owed deliveries, with their deliveries and attempts.

    It prunes one event type after the other, the oldest events first, each batch in its own
    transaction. If half of the time does not suffice, the other half begins at a random event,
    since many may have to stay. While others use the outbox, a batch is small, and it rests twice
    as long as the batch took, so that others have most of the time. Otherwise batches grow,
    and it does not rest. An event that waits for fan-out or has an owed delivery stays, however
    old.

    Args:
        older_than: the age since emission from which events of all types are pruned; None: the age
            of each type in `OUTBOX["RETENTION"]`. A type without an entry there is kept.
        archive: the folder to which pruned events are written first; None: `OUTBOX["ARCHIVE"]`;
            "": no archive.
        at_most: the longest duration; the next run continues.
        batch: events in one transaction, with a rest after each; None: by what others do.
        after_batch: called after each transaction. It may raise `Stopped`.
        by: the person or process that prunes.
        using: the outbox's database alias.

    Returns:
        The number of removed events.
    """
    using = using or databases.alias()
    folder = conf().ARCHIVE if archive is None else archive
    seconds = at_most.total_seconds() if at_most is not None else float("inf")
    if batch is None:
        pace: Pace = AdaptivePace(using=using, after_batch=after_batch)
    else:
        pace = Pace(batch, after_batch=after_batch)
    # `suppress` within the archive, whose file is finished.
    with archive_in(folder) if folder else nullcontext() as store, suppress(Stopped):
        _prune(older_than, seconds, archive=store, pace=pace, by=by, using=using)
    what = "by OUTBOX['RETENTION']" if older_than is None else f"older than {older_than}"
    logger.info("%s pruned %d events %s", by, pace.removed, what)
    return pace.removed


def _prune(
    older_than: timedelta | None,
    seconds: float,
    *,
    archive: Archive | None,
    pace: Pace,
    by: str,
    using: str,
) -> None:
    until = time.monotonic() + seconds
    _prune_rows(older_than, archive=archive, pace=pace, until=until, using=using)
    if latest := _latest_horizon(older_than, using=using):
        forget_unused(before=latest, until=until, after_page=pace.after_batch, using=using)


def _prune_rows(
    older_than: timedelta | None, *, archive: Archive | None, pace: Pace, until: float, using: str
) -> None:
    """Prune one type after the other in batches, until a time of `time.monotonic`.

    A run with a time limit may end among many old events that have to stay. The next run, which may
    be in another process, would end there as well. So if half of the time does not suffice, a run
    uses the other half from a random event on.
    """
    now = time.monotonic()
    ages = horizons(older_than=older_than, using=using)
    half = now + (until - now) / 2
    if _prune_types(ages, archive=archive, pace=pace, until=half, using=using):
        return
    left = list(horizons(older_than=older_than, using=using))
    if not left or time.monotonic() > until:
        return
    left = left[random.randrange(len(left)) :]
    name, before = left[0]
    after = random_seq(name, before=before, using=using) - 1
    _prune_types(left, after=after, archive=archive, pace=pace, until=until, using=using)


def _prune_types(
    ages: Iterable[tuple[str, datetime]],
    *,
    after: int = 0,
    archive: Archive | None,
    pace: Pace,
    until: float,
    using: str,
) -> bool:
    """Prune these types, the first one after a `seq`; return whether the time sufficed."""
    for name, before in ages:
        if time.monotonic() > until:
            return False
        _remember_horizon(before, using=using)
        for seqs in _batches(name, before, after=after, pace=pace, using=using):
            if time.monotonic() > until:
                return False
            pace.removed += prune_some(seqs, before=before, archive=archive, using=using)
        after = 0
    return True


def horizons(
    *, older_than: timedelta | None = None, using: str | None = None
) -> Iterator[tuple[str, datetime]]:
    """Yield each stored event type with a retention, and the time before which it is pruned."""
    using = using or databases.alias()
    retention, now = conf().RETENTION, clock.now(using=using)
    for name in _names(using=using):
        by_class = retention.get(class_name_of(name), retention.get("default"))
        days = retention.get(name, by_class)
        if older_than is not None:
            yield name, now - older_than
        elif days is not None:
            yield name, now - timedelta(days=days)


def _latest_horizon(older_than: timedelta | None, *, using: str) -> datetime | None:
    """Return the time before which events of some type are pruned; None: of no type."""
    ages = [timedelta(days=days) for days in conf().RETENTION.values() if days is not None]
    if older_than is not None:
        ages = [older_than]
    return clock.now(using=using) - min(ages) if ages else None


def countable(*, older_than: timedelta | None = None, using: str | None = None) -> int:
    """Return the number of events that `prune` would remove now."""
    using = using or databases.alias()
    ages = horizons(older_than=older_than, using=using)
    return sum(
        prunable(before=before, using=using).filter(name=name).count() for name, before in ages
    )


def _remember_horizon(before: datetime, *, using: str) -> None:
    """Commit the horizon before pruning: missing events before it are pruned and not lost."""
    with transaction.atomic(using=using):
        horizons = Horizon.objects.using(using)
        horizons.bulk_create([Horizon(emitted_before=before)], ignore_conflicts=True)
        horizons.filter(emitted_before__lt=before).update(emitted_before=before)


def _names(*, using: str) -> Iterator[str]:
    """Yield the names of stored events, by one index lookup for each name."""
    name = next_name("", using=using)
    while name:
        yield name
        name = next_name(name, using=using)


def _batches(
    name: str, before: datetime, *, after: int = 0, pace: Pace, using: str
) -> Iterator[Sequence[int]]:
    """Yield the prunable events of one type after a seq, until a slice has no old event.

    Seq follows the time of emission. So the index of name and seq finds the end without an index on
    the time, and without reading other types or all young events. It rests after each batch. If
    all events of a slice are owed, it yields an empty batch, so that the caller checks the time.
    """
    seq, began = after, time.monotonic()
    while found := read_slice(name, seq, before=before, number=_slice(pace), using=using):
        for seqs in _parts(found.prunable, pace):
            yield seqs
            time.sleep(pace.rest_after(time.monotonic() - began))
            began = time.monotonic()
        seq = found.until


def _slice(pace: Pace) -> int:
    return max(pace.batch, min(SLICE_BATCHES * pace.batch, _SLICE))


def _parts(seqs: Sequence[int], pace: Pace) -> Iterator[Sequence[int]]:
    """Yield parts of the size of a batch, the last one smaller; of no events one empty part."""
    start = 0
    while start < max(len(seqs), 1):
        part = seqs[start : start + pace.batch]
        start += pace.batch
        yield part
