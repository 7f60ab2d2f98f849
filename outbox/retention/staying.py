"""Events of a past day that have to stay: owed ones, open settlements, and younger retentions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from outbox.deliveries.statements import read, timestamp
from outbox.partitions.emptying import MOST_EVENTS, TooManyStay, owed_in, refuse_many
from outbox.partitions.past import Day

#: A day with fewer events is pruned row by row: emptying it is not worth its locks.
FEWEST = 2 * MOST_EVENTS

#: The time before which events of a type are pruned, by name. Other types stay.
Horizons = Mapping[str, datetime]


def is_removable(day: Day, horizons: Horizons, *, using: str) -> bool:
    """Return whether a day has many events, and few of them have to stay.

    It reads some thousand entries of an index for each type. `slice_of` decides about each event.
    """
    if not is_old(day, horizons, using=using):
        return False
    if _count(f'SELECT 1 FROM "{day.events.name}" LIMIT {FEWEST}', using=using) < FEWEST:  # noqa: S608  ours
        return False
    young = 0
    for name in names_in(day, using=using):
        young += _count_young(day, name, horizons.get(name), using=using)
        if young > MOST_EVENTS:
            return False
    try:
        unfinished_in(day, using=using)
    except TooManyStay:
        return False
    return True


def is_old(day: Day, horizons: Horizons, *, using: str) -> bool:
    """Return whether the last event of a day is old enough to be pruned, if not for its type."""
    newest = read(f'{_EMITTED} "{day.events.name}" ORDER BY seq DESC LIMIT 1', using=using)
    return bool(newest and horizons) and newest[0][0] < max(horizons.values())


def unfinished_in(day: Day, *, using: str) -> set[int]:
    """Return the events of a day with an owed delivery, an open settlement or an unsent report.

    Events that wait for fan-out are included. One snapshot is read: a delivery is owed until its
    receipt opens its settlement, and becomes dead when the settlement is given up.

    Raises:
        TooManyStay: they or their deliveries are too many.
    """
    found = owed_in(day, using=using, further=unsettled_in(day))
    refuse_many(day, found, using=using)
    return found


def unsettled_in(day: Day) -> list[str]:
    """Return SELECT statements of a day's events with an open settlement, or an unsent report."""
    events = f'JOIN "{day.events.name}" e ON e.id = s.event'
    return [
        f"SELECT e.seq FROM outbox_settlement s {events} WHERE s.state = 'open'",  # noqa: S608  ours
        f"SELECT e.seq FROM outbox_settlementreport s {events} WHERE s.reported_at IS NULL",  # noqa: S608  ours
    ]


class Slice(NamedTuple):
    """The next events of a day.

    Attributes:
        number: how many they are.
        last: the `seq` of the last one.
        young: the `seq` of those that a retention keeps.
    """

    number: int
    last: int
    young: list[int]


def slice_of(day: Day, after: int, horizons: Horizons, *, number: int, using: str) -> Slice | None:
    """Read the next events of a day after a `seq`; None: there are no more."""
    names = list(horizons)
    before = ", ".join(["(%s, %s::timestamptz)"] * len(names)) or "(NULL, NULL::timestamptz)"
    values = [part for name in names for part in (name, timestamp(horizons[name], using=using))]
    statement = _SLICE.format(leaf=day.events.name, after=int(after), number=number, before=before)
    [[found, last, young]] = read(statement, *values, using=using)
    return Slice(found, last, young or []) if found else None


def has_events(day: Day, *, using: str) -> bool:
    """Return whether a day has an event."""
    return bool(read(f'SELECT 1 FROM "{day.events.name}" LIMIT 1', using=using))  # noqa: S608  ours


def names_in(day: Day, *, using: str) -> Iterator[str]:
    """Yield the names of a day's events, by one look-up in an index for each."""
    name = ""
    while found := read(_NEXT_NAME.format(leaf=day.events.name), name, using=using):
        [[name]] = found
        yield name


def _count_young(day: Day, name: str, before: datetime | None, *, using: str) -> int:
    """Count the events of a type that its retention keeps, up to one more than may stay.

    Of a type with a retention only the last events are read: `seq` follows the time of emission.
    """
    rows = (
        f'{_EMITTED} "{day.events.name}" WHERE name = %s '
        f"ORDER BY name DESC, seq DESC LIMIT {MOST_EVENTS + 1}"
    )
    if before is None:
        return _count(rows, name, using=using)
    is_young = f"SELECT 1 FROM ({rows}) last WHERE emitted_at >= %s"  # noqa: S608  ours
    return _count(is_young, name, timestamp(before, using=using), using=using)


def _count(rows: str, *values: object, using: str) -> int:
    [[number]] = read(f"SELECT count(*) FROM ({rows}) found", *values, using=using)  # noqa: S608  ours
    return int(number)


_EMITTED = "SELECT emitted_at FROM"
_NEXT_NAME = 'SELECT name FROM "{leaf}" WHERE name > %s ORDER BY name LIMIT 1'
_SLICE = """
SELECT count(*), max(e.seq), array_agg(e.seq)
    FILTER (WHERE h.before IS NULL OR e.emitted_at >= h.before)
FROM (SELECT seq, name, emitted_at FROM "{leaf}" WHERE seq > {after}
    ORDER BY seq LIMIT {number}) e
LEFT JOIN (VALUES {before}) h (name, before) ON h.name = e.name"""
