"""Fan-out: an event becomes one delivery for each subscription that hears it.

A page of events costs four statements, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import QuerySet

from outbox.conf import conf
from outbox.models import Delivery, Event, Subscription

from . import ordering
from .lanes import Birth, Lane, newborn

State = Delivery.State
Hearers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores; SQLite has a limit of its parameters.
_STORED_AT_ONCE = 1000


class Waiting(NamedTuple):
    """What the relay reads of an event that waits for fan-out."""

    seq: int
    name: str
    key: str
    emitted_at: datetime
    traceparent: str


def waiting_events(*, using: str) -> QuerySet[Event]:
    """Return the events that have no deliveries yet, in order."""
    return Event.objects.using(using).filter(fanned_out_at=None).order_by("seq")


def fan_out(lanes: Mapping[int, Lane], now: datetime, *, using: str) -> list[Waiting]:
    """Make the deliveries of what waits, and claim for the lanes what they have room for.

    A subscription that another relay holds gets its deliveries too; a later pass sends them.
    Returns the events.
    """
    waiting = waiting_events(using=using).select_for_update(skip_locked=True)
    rows = waiting.values_list(*Waiting._fields)[: conf().FAN_OUT]
    events = [Waiting(*row) for row in rows]
    if not events:
        return []
    born = _born(events, now=now, using=using)
    for pk, lane in lanes.items():
        if pk in born:
            born[pk] = lane.take(born[pk])
    for pk, delivery_id in _store([one for some in born.values() for one in some], using=using):
        lanes[pk].claimed.append((delivery_id, 1, 0))
    told = Event.objects.using(using).filter(seq__in=[event.seq for event in events])
    told.update(fanned_out_at=now)
    return events


def _born(events: Sequence[Waiting], *, now: datetime, using: str) -> dict[int, list[Birth]]:
    """Make the deliveries of events, by subscription and in order."""
    hearers = _hearers({event.name for event in events}, using=using)
    firsts = _first_of_lines(events, hearers, using=using)
    born: dict[int, list[Birth]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in hearers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(seq, firsts, line=(row.handler, key))
            delivery = newborn(seq, row, now=now, key=key, is_behind=is_behind)
            born.setdefault(row.pk, []).append(delivery)
    return born


def _hearers(names: set[str], *, using: str) -> Hearers:
    hearers: dict[str, list[Subscription]] = {}
    rows = Subscription.objects.using(using).filter(active=True, event__in=names)
    for row in rows.order_by("id"):
        hearers.setdefault(row.event, []).append(row)
    return hearers


def _first_of_lines(
    events: Sequence[Waiting], hearers: Hearers, *, using: str
) -> dict[ordering.Line, int]:
    """Look at the lines that these events join. The events themselves are in them already."""
    keys = {one.key for one in events if any(row.ordered for row in hearers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}


def _store(born: Sequence[Birth], *, using: str) -> Iterator[tuple[int, int]]:
    """Store deliveries; yield subscription and id of those that are sent.

    As `bulk_create` does, without a model's instance and all its columns for each.
    """
    connection = connections[using]
    adapt = cache(connection.ops.adapt_datetimefield_value)
    for start in range(0, len(born), _STORED_AT_ONCE):
        some = born[start : start + _STORED_AT_ONCE]
        values: list[Any] = []
        for seq, subscription, state, due_at, *rest in some:
            values += (seq, subscription, state, adapt(due_at), *rest)
        with connection.cursor() as cursor:
            cursor.execute(_INSERT + ", ".join([_VALUES] * len(some)) + _RETURNING, values)
            for pk, delivery_id, state in cursor.fetchall():
                if state == State.SENT:
                    yield pk, delivery_id


# In the order of a `Birth`.
_INSERT = """
INSERT INTO outbox_delivery (
    event_id, subscription_id, state, due_at, token, note, order_key,
    started_token, attempts, worker
) VALUES """
_VALUES = "(%s, %s, %s, %s, %s, %s, %s, 0, 0, '')"
_RETURNING = " RETURNING subscription_id, id, state"
