"""Fan-out: an event becomes one delivery for each subscription that hears it.

A page of events costs the same number of statements, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from outbox.conf import conf
from outbox.models import Delivery, Event, Subscription

from . import ordering
from .lanes import Birth, Lane, newborn
from .statements import Columns, Rows, Statement, locking, moment, numbers, read_each

State = Delivery.State
Hearers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores; SQLite has a limit of its parameters, of which each has two.
_STORED_AT_ONCE = 1000


class Waiting(NamedTuple):
    """What the relay reads of an event that waits for fan-out, in the order of its columns."""

    seq: int
    name: str
    key: str
    emitted_at: datetime
    traceparent: str


def waiting_events(*, using: str) -> Statement:
    """Take a page of the events that have no deliveries yet, as far as no other relay has them."""
    page = f"ORDER BY e.seq LIMIT {conf().FAN_OUT:d}{locking(using=using, skip_locked=True)}"
    return Statement(f"{_WAITING} {page}")


def waiting_of(rows: Rows, *, using: str) -> list[Waiting]:
    """Return the events of the rows that `waiting_events` has found."""
    return [Waiting(*_W.convert(row, using=using)) for row in rows]


def hearers_of(
    events: Sequence[Waiting], rows: Sequence[Subscription] | None, *, using: str
) -> Hearers:
    """Return who hears the events, by their names.

    Args:
        events: what was locked.
        rows: all active subscriptions, read after the events were; None: that is done here.
        using: the outbox's database alias.
    """
    names = {event.name for event in events}
    if rows is None:
        active = Subscription.objects.using(using).filter(active=True, event__in=names)
        rows = list(active.order_by("id"))
    hearers: dict[str, list[Subscription]] = {}
    for row in rows:
        hearers.setdefault(row.event, []).append(row)
    return hearers


def fan_out(
    events: Sequence[Waiting],
    hearers: Hearers,
    lanes: Mapping[int, Lane],
    now: datetime,
    *,
    using: str,
) -> None:
    """Make the deliveries of events, and claim for the lanes what they have room for.

    A subscription that another relay holds gets its deliveries too; a later pass sends them.
    """
    born = _born(events, hearers, now=now, using=using)
    for pk, lane in lanes.items():
        if pk in born:
            born[pk] = lane.take(born[pk])
    seqs = numbers(event.seq for event in events)
    mark = Statement(f"{_MARK} WHERE seq IN ({seqs})", (moment(now, using=using),))
    stored = _store([one for some in born.values() for one in some], using=using)
    for pk, delivery_id, state in chain(*read_each(mark, *stored, using=using)):
        if state == State.SENT:
            lanes[pk].claimed.append((delivery_id, 1, 0))


def _born(
    events: Sequence[Waiting], hearers: Hearers, *, now: datetime, using: str
) -> dict[int, list[Birth]]:
    """Make the deliveries of events, by subscription and in order."""
    firsts = _first_of_lines(events, hearers, using=using)
    born: dict[int, list[Birth]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in hearers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(seq, firsts, line=(row.handler, key))
            delivery = newborn(seq, row, now=now, key=key, is_behind=is_behind)
            born.setdefault(row.pk, []).append(delivery)
    return born


def _first_of_lines(
    events: Sequence[Waiting], hearers: Hearers, *, using: str
) -> dict[ordering.Line, int]:
    """Look at the lines that these events join. The events themselves are in them already."""
    keys = {one.key for one in events if any(row.ordered for row in hearers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}


def _store(born: Sequence[Birth], *, using: str) -> Iterator[Statement]:
    """Store deliveries; each statement returns subscription, id and state of some.

    As `bulk_create` does, without a model's instance and a placeholder for each column.
    """
    moments = {one.due_at: f"'{moment(one.due_at, using=using)}'" for one in born}
    for start in range(0, len(born), _STORED_AT_ONCE):
        some = born[start : start + _STORED_AT_ONCE]
        rows = ", ".join(_row(one, moments[one.due_at]) for one in some)
        texts = [text for one in some for text in (one.note or None, one.order_key)]
        values = tuple(text for text in texts if text is not None)
        yield Statement(f"{_INSERT} VALUES {rows} {_RETURNING}", values)


def _row(one: Birth, due_at: str) -> str:
    """Return a row for the INSERT: what is ours as it is, what is not by placeholders."""
    note = "%s" if one.note else "''"
    order_key = "NULL" if one.order_key is None else "%s"
    return (
        f"({one.seq:d}, {one.subscription:d}, '{one.state}', {due_at}, {one.token:d}, "
        f"{note}, {order_key}, 0, 0, '')"
    )


_W = Columns(Event, alias="e", names=Waiting._fields)
_WAITING = f"SELECT {_W.text} FROM outbox_event e WHERE e.fanned_out_at IS NULL"  # noqa: S608  ours
_MARK = "UPDATE outbox_event SET fanned_out_at = %s"
_INSERT = """
INSERT INTO outbox_delivery (
    event_id, subscription_id, state, due_at, token, note, order_key,
    started_token, attempts, worker
)"""
_RETURNING = "RETURNING subscription_id, id, state"
