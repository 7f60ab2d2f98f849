"""Days and the ranges of `seq` that belong to them.

Each day has a range of 10**11 numbers, which begins at the day's number times 10**11. The number of
a day is counted from 1970-01-01. All numbers stay below 2**53 until the year 2216.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

#: Numbers of `seq` that belong to one day.
PER_DAY = 10**11

_EPOCH = date(1970, 1, 1)


def first_seq(day: date) -> int:
    """Return the first `seq` of a day (UTC)."""
    return (day - _EPOCH).days * PER_DAY


def day_of(seq: int) -> date | None:
    """Return the day (UTC) whose range contains a `seq`.

    None: the event was stored before the sequence jumped for the first time. Its number belongs to
    no day, and it is in the first partition of a converted table.
    """
    number = seq // PER_DAY
    return _EPOCH + timedelta(days=number) if number > 0 else None


def start_of(seq: int) -> datetime:
    """Return the midnight (UTC) at which the day begins whose range contains a `seq`."""
    return datetime.combine(_EPOCH + timedelta(days=seq // PER_DAY), time(), tzinfo=UTC)


def day_at(moment: datetime) -> date:
    """Return the day (UTC) of a time with a zone."""
    return moment.astimezone(UTC).date()


def partition_name(table: str, day: date) -> str:
    """Return the name of a table's partition for a day, such as `outbox_event_20261129`."""
    return f"{table}_{day:%Y%m%d}"
