"""Fan-out: an event becomes one delivery for each subscription that hears it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import QuerySet

from outbox.conf import conf
from outbox.models import Delivery, Event, Subscription

from . import ordering
from .lanes import Lane, newborn

State = Delivery.State


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
    hearers = _hearers({event.name for event in events}, using=using)
    firsts = _first_of_lines(events, hearers, using=using)
    born = []
    for event in events:
        seq, key = event.seq, event.key
        for row in hearers.get(event.name, ()):
            line = (row.handler, key)
            behind = row.ordered and ordering.is_behind(seq, firsts, line=line)
            if row.pk in lanes:
                born.append(lanes[row.pk].newborn(seq, key=key, is_behind=behind))
            else:
                born.append(newborn(seq, row, now=now, key=key, is_behind=behind))
    Delivery.objects.using(using).bulk_create(born)
    _claim(born, lanes)
    Event.objects.using(using).filter(seq__in=[event.seq for event in events]).update(
        fanned_out_at=now
    )
    return events


def _claim(born: Sequence[Delivery], lanes: Mapping[int, Lane]) -> None:
    for delivery in born:
        if delivery.state == State.SENT:
            lane = lanes[delivery.subscription_id]
            lane.in_flight -= 1
            lane.claimed.append((delivery.pk, delivery.token, 0))


def _hearers(names: set[str], *, using: str) -> dict[str, list[Subscription]]:
    hearers: dict[str, list[Subscription]] = {}
    rows = Subscription.objects.using(using).filter(active=True, event__in=names)
    for row in rows.order_by("id"):
        hearers.setdefault(row.event, []).append(row)
    return hearers


def _first_of_lines(
    events: Sequence[Waiting], hearers: Mapping[str, Sequence[Subscription]], *, using: str
) -> dict[ordering.Line, int]:
    """Look at the lines that these events join. The events themselves are in them already."""
    keys = {one.key for one in events if any(row.ordered for row in hearers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}
