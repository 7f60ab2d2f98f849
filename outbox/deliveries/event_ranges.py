"""Ranges of events: conditions by which PostgreSQL reads and locks one partition and not all.

A statement that finds deliveries by `id` alone opens and locks every partition with all its
indexes. PostgreSQL compares a literal `event_id`, or a range of it, with the bounds of partitions
while it plans, and leaves out the others.

Without `OUTBOX["PARTITION"]` there is no range, and each statement is as it would be without this
module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db import connections
from django.db.models import QuerySet

from outbox.conf import conf
from outbox.deliveries.statements import SENT, Statement, locking, numbers
from outbox.models import Delivery

#: The lowest and the highest `seq` of some events.
Range = tuple[int, int]


def and_event() -> str:
    """Return the column `event_id` with a comma before it; "" if the setting is off."""
    return ", event_id" if conf().PARTITION else ""


def range_of(seqs: Iterable[int]) -> Range | None:
    """Return the range of events. None: there are none, or the setting is off."""
    if not conf().PARTITION:
        return None
    found = list(seqs)
    return (min(found), max(found)) if found else None


def spanning(ranges: Iterable[Range | None]) -> Range | None:
    """Return the range that contains all ranges. None: one is unknown, or there are none."""
    found = list(ranges)
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return min(first for first, _last in known), max(last for _first, last in known)


def within(events: Range | None, column: str = "event_id") -> str:
    """Return the SQL condition of a range with AND before it; "" without a range."""
    if events is None:
        return ""
    first, last = events
    if first == last:
        return f" AND {column} = {first:d}"
    return f" AND {column} BETWEEN {first:d} AND {last:d}"


def in_order(where: str, events: Range | None, *, using: str) -> str:
    """Return the SQL condition of an UPDATE that locks several deliveries in the order of ids.

    All code locks them in this order. Without a range, PostgreSQL finds them by the index of ids,
    in this order. With one it may find them in the order of events or of pages.

    Args:
        where: the condition, with the range, of unaliased rows of `outbox_delivery`.
        events: the range. None: the condition stays as it is.
        using: the database alias.
    """
    if events is None or connections[using].vendor != "postgresql":
        return where
    lock = locking(using=using, no_key=True)
    rows = f"SELECT id FROM outbox_delivery WHERE {where} ORDER BY id{lock}"  # noqa: S608  ours
    return f"id = ANY (ARRAY({rows})){within(events)}"


def lock_in_order(ids: Collection[int], events: Range | None, *, using: str) -> list[Statement]:
    """Return the statement that precedes several UPDATEs of a message in one transaction.

    Deliveries of a message that were sent at different times have different tokens, so each UPDATE
    locks some of them. The statement locks all of them in the order of ids. None without a range.
    """
    if connections[using].vendor != "postgresql" or events is None:
        return []
    rows = f"SELECT id FROM outbox_delivery WHERE id IN ({numbers(ids)}){within(events)}"  # noqa: S608  ours
    return [Statement(f"{rows} AND {SENT} ORDER BY id{locking(using=using, no_key=True)}")]


def only(events: Range | None) -> dict[str, int]:
    """Return the arguments of `filter` for deliveries of a range; none without a range."""
    if events is None:
        return {}
    first, last = events
    if first == last:
        return {"event_id": first}
    return {"event_id__gte": first, "event_id__lte": last}


def of(row: Delivery) -> dict[str, int]:
    """Return the arguments of `filter` for the event of one delivery."""
    return only(range_of([row.event_id]))


def save(row: Delivery, *names: str, using: str) -> None:
    """Store columns of a delivery that the caller has locked, as `save(update_fields=names)`."""
    if not conf().PARTITION:
        row.save(using=using, update_fields=names)
        return
    values = {name: getattr(row, name) for name in names}
    mine: QuerySet[Delivery] = Delivery.objects.using(using)
    mine.filter(pk=row.pk, **of(row)).update(**values)
