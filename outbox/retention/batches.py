"""One batch of what goes: find it, lock it, look again whether something is owed, delete it.

Each statement is a probe of an index, whatever the planner believes of the tables. A planner that
has no statistics yet (a young table, a restored one) reads all deliveries for three hundred events,
and all events of a type for the next batch of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections, transaction
from django.db.models import OuterRef, QuerySet, Subquery

from outbox import databases
from outbox.deliveries.locks import lock_deliveries
from outbox.deliveries.statements import bound_transaction, execute, numbers
from outbox.models import Delivery, Event
from outbox.transactions import is_its_own

from .archive import Archive


def prunable(*, before: datetime, using: str | None = None) -> QuerySet[Event]:
    """Return the events emitted before a moment of which nothing is owed any more."""
    using = using or databases.alias()
    owed = Delivery.objects.using(using).filter(event=OuterRef("pk"), state__in=Delivery.OWED)
    # The first in order, not `EXISTS`, which the planner may make into a set of all that is owed.
    debt = Subquery(owed.order_by("event", "subscription").values("pk")[:1])
    old = Event.objects.using(using).filter(emitted_at__lt=before, fanned_out_at__isnull=False)
    return old.alias(debt=debt).filter(debt=None)


@dataclass(frozen=True)
class Look:
    """What a look along a type found: its prunable events, and the seq up to which it went."""

    prunable: Sequence[int]
    until: int


def look(name: str, seq: int, *, before: datetime, number: int, using: str) -> Look | None:
    """Look at the next events of a type after a seq, without a lock; None: none of them is old."""
    with _sparing_reads(using):
        found = _following(name, seq, number=number, using=using)
        old = [row.seq for row in found if row.emitted_at < before]
        if not old:
            return None
        rows = prunable(before=before, using=using).filter(seq__in=old).order_by("seq")
        return Look(list(rows.values_list("seq", flat=True)), until=found[-1].seq)


def _following(name: str, seq: int, *, number: int, using: str) -> list[Event]:
    after = _AFTER_PAIR if connections[using].vendor == "postgresql" else _AFTER
    asked = {"name": name, "seq": seq, "number": number}
    return list(Event.objects.using(using).raw(_FOLLOWING.format(after=after), asked))


_FOLLOWING = """
SELECT seq, emitted_at FROM outbox_event WHERE {after} ORDER BY name, seq LIMIT %(number)s
"""
_AFTER = "name = %(name)s AND seq > %(seq)s"
# Only the index of name and seq has the order of pairs. Of a type that is rare among old events,
# PostgreSQL believes that it is everywhere, and would walk the primary key through all the others.
# (SQLite finds the place in the index by equality only.)
_AFTER_PAIR = "(name, seq) > (%(name)s, %(seq)s) AND name <= %(name)s"


def prune_some(
    seqs: Sequence[int], *, before: datetime, archive: Archive | None, using: str
) -> int:
    """Remove those of the events of which nothing is owed any more; return how many that were.

    They were prunable a moment ago: fanned out, and that is never undone.
    """
    if not seqs:
        return 0
    with _sparing(using):
        # No delivery can be added to a locked event, and none of those it has can be replayed.
        events = Event.objects.using(using).filter(seq__in=seqs, emitted_at__lt=before)
        locked = set(events.order_by("seq").select_for_update().values_list("seq", flat=True))
        deliveries = lock_deliveries(locked, using=using)
        locked -= {event for _, event, state in deliveries if state in Delivery.OWED}
        if archive:
            events = Event.objects.using(using).filter(seq__in=locked).order_by("seq")
            archive.add(list(events), using=using)
        _remove(locked, [id for id, event, _ in deliveries if event in locked], using=using)
    return len(locked)


def _sparing_reads(using: str) -> AbstractContextManager[Any]:
    """As `_sparing` where there is something to set; on SQLite a transaction would lock."""
    is_postgresql = connections[using].vendor == "postgresql"
    return _sparing(using) if is_postgresql else nullcontext()


@contextmanager
def _sparing(using: str) -> Iterator[None]:
    """A transaction in which PostgreSQL takes indexes, and whose flush nobody waits for.

    If the server dies within the next half second, what was deleted may be there again, whole: its
    deliveries came back with it, and it is pruned again. What was committed before is flushed
    before, the horizon for example. Within a caller's transaction nothing is set, since that
    would hold to its end.
    """
    with transaction.atomic(using=using):
        connection = connections[using]
        if connection.vendor == "postgresql" and is_its_own(connection):
            bound_transaction(_IDLE_SECONDS, using=using)
            with connection.cursor() as cursor:
                cursor.execute(_SETTINGS)
        yield


#: A batch whose process does nothing for so long is ended by PostgreSQL: its host may be gone.
_IDLE_SECONDS = 60.0
_SETTINGS = """
SELECT set_config('synchronous_commit', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""


def _remove(seqs: Collection[int], deliveries: Collection[int], *, using: str) -> None:
    """Delete in the order that foreign keys ask for.

    Written out, since nothing else refers to these rows: Django's delete() would load each of them
    first, which held the write lock of SQLite several times as long.
    """
    _delete("outbox_attempt", "delivery_id", deliveries, using=using)
    _delete("outbox_delivery", "id", deliveries, using=using)
    _delete("outbox_event", "seq", seqs, using=using)


def _delete(table: str, column: str, values: Collection[int], *, using: str) -> None:
    if values:
        statement = f"DELETE FROM {table} WHERE {column} IN ({numbers(values)})"  # noqa: S608  ours
        execute(statement, using=using)
