"""Archive the events of a closed day in slices, and delete the rows that refer to removed ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from outbox.deliveries.statements import execute, numbers, read
from outbox.models import Event
from outbox.partitions.emptying import Emptied
from outbox.partitions.past import Day

from .archive import Archive

#: Rows of one step of a sweep.
_PAGE = 2000


class Span(NamedTuple):
    """Events of a day: those after a `seq`, up to another one, apart from the kept ones."""

    after: int
    last: int
    kept: Collection[int]

    def condition(self, column: str) -> str:
        """Return the SQL condition on a column with the `seq` of an event."""
        inside = f"{column} > {self.after} AND {column} <= {self.last}"
        return f"{inside} AND {column} NOT IN ({numbers(self.kept)})" if self.kept else inside


def last_of(day: Day, after: int, *, number: int, using: str) -> int | None:
    """Return the last of the next events of a day after a `seq`; None: there are no more."""
    statement = (
        f'SELECT max(seq) FROM (SELECT seq FROM "{day.events.name}" '  # noqa: S608  ours
        f"WHERE seq > {int(after)} ORDER BY seq LIMIT {int(number)}) slice"
    )
    [[last]] = read(statement, using=using)
    return None if last is None else int(last)


def archive_span(span: Span, archive: Archive, *, using: str) -> None:
    """Write the events to the archive."""
    rows = Event.objects.using(using).extra(where=[span.condition("seq")])  # noqa: S610  numbers
    archive.add(list(rows.order_by("seq")), using=using)


class Left(NamedTuple):
    """A range of rows that may refer to removed events or deliveries.

    Attributes:
        table: a table without partitions.
        after: its rows are after this delivery id or event id.
        last: the last delivery id or event id. Event ids are texts.
    """

    table: str
    after: int | str
    last: int | str


def left_by(emptied: Emptied) -> list[Left]:
    """Return the ranges that have to be swept after a day was emptied."""
    left: list[Left] = []
    if emptied.deliveries is not None:
        low, high = emptied.deliveries
        left += [Left(table, low - 1, high) for table in _OF_DELIVERIES]
    if emptied.events is not None:
        first, last = emptied.events
        before = UUID(int=max(first.int - 1, 0))
        left += [Left(table, str(before), str(last)) for table in _OF_EVENTS]
    return left


def sweep(left: Left, *, using: str) -> Left | None:
    """Delete the next rows of a range whose event or delivery is gone, in the open transaction.

    No row is added meanwhile: each transaction that adds one locks the delivery or the event, or
    has locked it before the day was emptied.

    Returns:
        The rest of the range, or None.
    """
    column, condition = {**_OF_DELIVERIES, **_OF_EVENTS}[left.table]
    inside = f"{column} > %s AND {column} <= %s"
    values: list[Any] = [_value(left.after), _value(left.last)]
    rows = f"SELECT {column} FROM {left.table} WHERE {inside}"  # noqa: S608  ours
    page = read(f"{rows} ORDER BY {column} OFFSET {_PAGE - 1} LIMIT 1", *values, using=using)
    if page:
        values[1] = page[0][0]
    execute(f"DELETE FROM {left.table} WHERE {inside} AND {condition}", *values, using=using)  # noqa: S608  ours
    if not page:
        return None
    last = page[0][0]
    return left._replace(after=last if isinstance(last, int) else str(last))


def _value(end: int | str) -> int | UUID:
    return end if isinstance(end, int) else UUID(end)


# Each row by itself: the planner turns NOT EXISTS into a join, which may read all deliveries. A
# statement locks all partitions before it takes its snapshot. So it sees the rows that stay of a
# day that another process empties.
_NO_DELIVERY = (
    "(SELECT d.id FROM outbox_delivery d WHERE d.id = {table}.delivery_id LIMIT 1) IS NULL"
)
_NO_EVENT = "(SELECT e.id FROM outbox_event e WHERE e.id = {table}.event LIMIT 1) IS NULL"
_NOT_DELAYED = "(SELECT e.id FROM outbox_delayedevent e WHERE e.id = {table}.event LIMIT 1) IS NULL"

#: The column of the range, and the condition of rows that are deleted, of each table.
_OF_DELIVERIES = {
    table: ("delivery_id", _NO_DELIVERY.format(table=table))
    for table in ("outbox_attempt", "outbox_settlement")
}
# A key may belong to a delayed event. One statement reads both tables, so an event that moves is in
# one of them. A key that is claimed meanwhile has another event, and stays.
_OF_EVENTS = {
    "outbox_settlementreport": (
        "event",
        "reported_at IS NOT NULL AND " + _NO_EVENT.format(table="outbox_settlementreport"),
    ),
    "outbox_dedupekey": (
        "event",
        " AND ".join(one.format(table="outbox_dedupekey") for one in (_NO_EVENT, _NOT_DELAYED)),
    ),
}
