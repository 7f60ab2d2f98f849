"""Counters since the first start: each process counts, and the database adds the counts.

So one scrape of one URL returns the counts of all processes on all machines, without a shared
folder. Nothing is counted unless `OUTBOX["METRICS_TOKEN"]` is set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from django.conf import settings
from django.db import connections, transaction

from outbox import databases
from outbox.models import Counter

from .buffer import Buffer, Tallies

#: Upper bounds in seconds of the duration of an attempt.
RUN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Upper bounds in seconds of the time since emission: for `/metrics` and for `minutes.py`, which
#: has a column for each. A change here needs a migration there.
WAIT_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200)
SUM = "sum"

_ROWS_AT_ONCE = 200

#: Name and label of a counter. Its parts are outcomes, or a histogram's buckets and sum.
Place = tuple[str, str]


def are_on() -> bool:
    """Return whether this process counts."""
    # Not by conf(), which costs more: this is called several times for each delivery.
    return bool(getattr(settings, "OUTBOX", {}).get("METRICS_TOKEN"))


def count(name: str, label: str = "", part: str = "", *, number: int = 1) -> None:
    """Add to a counter. Return at once; do nothing if metrics are off."""
    if are_on():
        _buffer.add({(name, label): Tally({part: number})})


def observe(name: str, seconds: float, label: str = "", *, bounds: Sequence[float]) -> None:
    """Add a duration to its bucket and to the sum of a histogram."""
    observe_each(name, [seconds], label, bounds=bounds)


def observe_each(
    name: str, seconds: Sequence[float], label: str = "", *, bounds: Sequence[float]
) -> None:
    """As `observe`, for many durations."""
    if are_on() and seconds:
        places = Tally(bisect_left(bounds, one) for one in seconds)
        tally = Tally({_bucket(place, bounds): number for place, number in places.items()})
        total = sum(max(0.0, one) for one in seconds)
        tally[SUM] = total  # type: ignore[assignment]  # it adds up any number
        _buffer.add({(name, label): tally})


def _bucket(place: int, bounds: Sequence[float]) -> str:
    return str(float(bounds[place])) if place < len(bounds) else "+Inf"


def flush(*, using: str | None = None) -> None:
    """Store the counts of this process now; a thread does it every ten seconds.

    Args:
        using: store only those of this database of `OUTBOX["DATABASES"]`. None: all.
    """
    _buffer.write(using)


def counted(*, using: str | None = None) -> Iterator[tuple[Place, str, float]]:
    """Yield all counts. Their number depends on event names, handlers and buckets only."""
    using = using or databases.alias()
    rows = Counter.objects.using(using).order_by("name", "label", "part")
    for name, label, part, value in rows.values_list("name", "label", "part", "value"):
        yield (name, label), part, value


def _store(tallies: Tallies[Place]) -> None:
    """Add the counts in the order of the rows, so that two processes never deadlock."""
    rows = sorted(
        (name, label, part, value)
        for (name, label), tally in tallies.items()
        for part, value in tally.items()
    )
    using = databases.alias()
    connection = connections[using]
    table = connection.ops.quote_name(Counter._meta.db_table)
    adds = f"ON CONFLICT (name, label, part) DO UPDATE SET value = {table}.value + excluded.value"
    # All or none: after an error all are added again. One statement is atomic by itself.
    whole = transaction.atomic(using=using) if len(rows) > _ROWS_AT_ONCE else nullcontext()
    with whole, connection.cursor() as cursor:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            values = ", ".join(["(%s, %s, %s, %s)"] * len(some))
            cursor.execute(
                f"INSERT INTO {table} (name, label, part, value) VALUES {values} {adds}",  # noqa: S608
                [column for row in some for column in row],
            )


_buffer: Buffer[Place] = Buffer(_store)
