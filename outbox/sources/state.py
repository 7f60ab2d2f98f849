"""Counts and condition of the sources: written by their processes, read by the monitor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from django.db import transaction
from django.db.models import F, QuerySet

from outbox import clock, databases
from outbox.counting.buffer import Buffer
from outbox.models import SourceState

OUTCOMES = (
    "stored",
    "duplicates",
    "unreadable",
    "unknown",
    "dropped",
    "settlements",
    "ignored",
)


def received_in(source: str, using: str) -> str:
    """Return the queue of a receiver's heartbeat in the first database if it stores in `using`.

    Names of sources are identifiers, so it is the queue of no source.
    """
    return f"{source}@{using}"


def count(source: str, outcomes: Mapping[str, int]) -> None:
    """Count messages by outcome. Return at once; a thread stores the counts every ten seconds."""
    found = Counter({name: number for name, number in outcomes.items() if number})
    if found:
        _buffer.add({source: found})


def flush() -> None:
    """Store the counts of this process now."""
    _buffer.write()


def note_lag(source: str, lag: int | None, *, using: str | None = None) -> None:
    """Store the number of messages that wait in the external system; None: unknown."""
    using = using or databases.alias()
    _row(source, using=using).update(lag=lag, lag_at=clock.now(using=using))


def note_pause(source: str, *, is_paused: bool, using: str | None = None) -> None:
    """Store whether the source is paused because of its backlog."""
    using = using or databases.alias()
    rows = _row(source, using=using)
    if is_paused:
        rows.filter(paused_at=None).update(paused_at=clock.now(using=using))
    else:
        rows.exclude(paused_at=None).update(paused_at=None)


def note_failure(source: str, failure: str, *, using: str | None = None) -> None:
    """Store why the source cannot receive; "": it can."""
    using = using or databases.alias()
    rows = _row(source, using=using)
    if failure:
        rows.filter(failing_at=None).update(failing_at=clock.now(using=using))
        rows.update(failure=failure[:300])
    else:
        rows.exclude(failing_at=None).update(failing_at=None, failure="")


def _row(source: str, *, using: str) -> QuerySet[SourceState]:
    rows = SourceState.objects.using(using).filter(source=source)
    if not rows.exists():
        rows.bulk_create([SourceState(source=source)], ignore_conflicts=True)
    return rows


def _store(tallies: Mapping[str, Counter[str]]) -> None:
    """Add the counts in the order of the rows, so that two processes never deadlock."""
    using = databases.alias()
    now = clock.now(using=using)
    with transaction.atomic(using=using):
        for source in sorted(tallies):
            added = {name: F(name) + number for name, number in tallies[source].items()}
            _row(source, using=using).update(last_at=now, **added)


_buffer: Buffer[str] = Buffer(_store)
