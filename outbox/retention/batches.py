"""Prune one batch: find it, lock it, check again for owed deliveries, delete it.

Each statement uses an index, whatever the planner's statistics are. Without statistics (a new or
restored table) the planner would read all deliveries for three hundred events, and all events of a
type for its next batch.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, Value, When

from outbox import databases
from outbox.databases import is_its_own
from outbox.deliveries.locks import lock_deliveries
from outbox.deliveries.statements import (
    Rows,
    bound_transaction,
    execute,
    numbers,
    timestamp,
    uuids,
    with_numbers,
)
from outbox.ids import first_id_at
from outbox.models import Delivery, Event, Settlement, SettlementReport

from .archive import Archive


def prunable(*, before: datetime, using: str | None = None) -> QuerySet[Event]:
    """Return the events emitted before a time that have no owed delivery and no open settlement."""
    using = using or databases.alias()
    owed = Delivery.objects.using(using).filter(event=OuterRef("pk"), state__in=Delivery.OWED)
    # The first in order, not `EXISTS`: the planner may turn that into a set of all owed rows.
    owed_delivery = Subquery(owed.order_by("event", "subscription").values("pk")[:1])
    old = Event.objects.using(using).filter(emitted_at__lt=before, fanned_out_at__isnull=False)
    settlements = _open(Settlement, using).filter(event=OuterRef("id"))
    reports = _open(SettlementReport, using).filter(event=OuterRef("id"))
    return old.alias(
        owed_delivery=owed_delivery,
        settlement=Subquery(settlements.order_by("event").values("pk")[:1]),
        report=Subquery(reports.order_by("event").values("pk")[:1]),
    ).filter(owed_delivery=None, settlement=None, report=None)


def _open(model: type[Settlement | SettlementReport], using: str) -> QuerySet[Any]:
    """Return the open settlements, or the reports that are not sent.

    The condition is written so that no partial index matches it. Otherwise the planner, which
    expects few rows in a new table, may read that index for each event.
    """
    condition = Q(state="open") if model is Settlement else Q(reported_at=None)
    is_open = Case(When(condition, then=Value(1)), default=Value(0))
    rows: QuerySet[Any] = model._default_manager.using(using)
    found: QuerySet[Any] = rows.alias(is_open=is_open).filter(is_open=1)
    return found


@dataclass(frozen=True)
class Slice:
    """A slice of the events of a type: the prunable ones, and the last seq of the slice."""

    prunable: Sequence[int]
    until: int


def next_name(name: str, *, using: str) -> str | None:
    """Return the first name of stored events after a name, by one index lookup."""
    rows = Event.objects.using(using).filter(name__gt=name).order_by("name")
    with index_only_read(using):
        return rows.values_list("name", flat=True).first()


def read_slice(name: str, seq: int, *, before: datetime, number: int, using: str) -> Slice | None:
    """Read the next events of a type after a seq, without a lock; None: none of them is old."""
    with index_only_read(using):
        found = _following(name, seq, before=before, number=number, using=using)
        old = [seq for seq, is_old in found if is_old]
        if not old:
            return None
        rows = with_numbers(prunable(before=before, using=using), "seq", old).order_by("seq")
        return Slice(list(rows.values_list("seq", flat=True)), until=found[-1][0])


def random_seq(name: str, *, before: datetime, using: str) -> int:
    """Return the `seq` of the event at a random time since the oldest event of a type.

    Args:
        name: the type.
        before: the end of the possible times.
        using: the outbox's database alias.
    """
    with index_only_read(using):
        first = _following(name, 0, before=before, number=1, using=using)
        rows = Event.objects.using(using)
        times = rows.filter(seq__in=[seq for seq, _is_old in first])
        oldest = times.values_list("emitted_at", flat=True).first() or before
        # An id that does not begin with its time leads to another event, which is as good.
        later = rows.filter(id__gte=first_id_at(oldest + random.random() * (before - oldest)))
        return later.order_by("id").values_list("seq", flat=True).first() or 0


def _following(name: str, seq: int, *, before: datetime, number: int, using: str) -> Rows:
    after = _AFTER_PAIR if connections[using].vendor == "postgresql" else _AFTER
    with connections[using].cursor() as cursor:
        params: dict[str, Any] = {"name": name, "seq": seq, "number": number}
        params["before"] = timestamp(before, using=using)
        cursor.execute(_FOLLOWING.format(after=after), params)
        return list(cursor.fetchall())


_FOLLOWING = """
SELECT seq, emitted_at < %(before)s FROM outbox_event WHERE {after}
ORDER BY name, seq LIMIT %(number)s
"""
_AFTER = "name = %(name)s AND seq > %(seq)s"
# Only the index of name and seq has the order of pairs. PostgreSQL assumes that a type is evenly
# spread even if it is rare among old events. It would scan the primary key through all other types.
# (SQLite finds the place in the index by equality only.)
_AFTER_PAIR = "(name, seq) > (%(name)s, %(seq)s) AND name <= %(name)s"


def prune_some(
    seqs: Sequence[int], *, before: datetime, archive: Archive | None, using: str
) -> int:
    """Remove the events that have no owed delivery now; return the number of removed events.

    They were prunable before, so they are fanned out, which is never undone.
    """
    if not seqs:
        return 0
    with pruning_transaction(using):
        # A locked event gets no new delivery, and none of its deliveries can be replayed.
        events = with_numbers(Event.objects.using(using), "seq", seqs).filter(emitted_at__lt=before)
        id_of = dict(events.order_by("seq").select_for_update().values_list("seq", "id"))
        locked = set(id_of)
        deliveries = lock_deliveries(locked, using=using)
        locked -= {event for _, event, state in deliveries if state in Delivery.OWED}
        locked &= _without_open_settlements(id_of, using=using)
        if archive:
            rows = with_numbers(Event.objects.using(using), "seq", locked).order_by("seq")
            archive.add(list(rows), using=using)
        _forget_by_id([id_of[seq] for seq in locked], using=using)
        _remove(locked, [id for id, event, _ in deliveries if event in locked], using=using)
    return len(locked)


def index_only_read(using: str) -> AbstractContextManager[Any]:
    """Return `pruning_transaction` on PostgreSQL, for statements that only read.

    On SQLite it does nothing: a transaction would take the write lock.
    """
    is_postgresql = connections[using].vendor == "postgresql"
    return pruning_transaction(using) if is_postgresql else nullcontext()


def _without_open_settlements(id_of: Mapping[int, UUID], *, using: str) -> set[int]:
    """Return the events whose settlement is neither expected nor to be reported.

    The caller has locked their deliveries, so no receipt adds a settlement meanwhile.

    Args:
        id_of: the id of each event by its `seq`.
        using: the outbox's database alias.
    """
    among = f"event IN ({uuids(id_of.values(), using=using)})"
    open_ids = {
        event
        for model in (Settlement, SettlementReport)
        for event in _open(model, using).extra(where=[among]).values_list("event", flat=True)  # noqa: S610  ids
    }
    return {seq for seq, id in id_of.items() if id not in open_ids}


@contextmanager
def pruning_transaction(using: str) -> Iterator[None]:
    """Open a transaction in which PostgreSQL uses indexes and commits asynchronously.

    If the server crashes within the next half second, deleted events may exist again, with all
    their deliveries, and are pruned again. Earlier commits are flushed earlier, for example the
    horizon. Within a caller's transaction nothing is set, since it would last until its end.
    """
    with transaction.atomic(using=using):
        connection = connections[using]
        if connection.vendor == "postgresql" and is_its_own(connection):
            bound_transaction(_IDLE_SECONDS, using=using)
            with connection.cursor() as cursor:
                cursor.execute(_SETTINGS)
        yield


#: PostgreSQL ends a batch that is idle for so long: its host may be down.
_IDLE_SECONDS = 60.0
_SETTINGS = """
SELECT set_config('synchronous_commit', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""


def _remove(seqs: Collection[int], deliveries: Collection[int], *, using: str) -> None:
    """Delete rows in the order that the foreign keys need.

    By statements, since no other table refers to these rows. Django's delete() would load each row
    first and hold the write lock of SQLite several times as long.
    """
    ids = numbers(deliveries)
    _delete("outbox_settlement", "delivery_id", ids, using=using)
    _delete("outbox_attempt", "delivery_id", ids, using=using)
    _delete("outbox_delivery", "id", ids, using=using)
    _delete("outbox_event", "seq", numbers(seqs), using=using)


def _forget_by_id(ids: Collection[UUID], *, using: str) -> None:
    """Delete the reports and deduplication keys of events.

    By ids as values: a join may scan the events' primary key.
    """
    for table in ("outbox_settlementreport", "outbox_dedupekey"):
        _delete(table, "event", uuids(ids, using=using), using=using)


def _delete(table: str, column: str, values: str, *, using: str) -> None:
    execute(f"DELETE FROM {table} WHERE {column} IN ({values})", using=using)  # noqa: S608  ours
