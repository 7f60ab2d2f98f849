"""Fan-out: an event becomes one delivery for each subscription that hears it.

A page of events costs the same number of statements, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from outbox.conf import conf
from outbox.deliveries import ordering
from outbox.deliveries.statements import (
    Columns,
    Rows,
    Statement,
    instant,
    locking,
    numbers,
    read_each,
    read_last,
    timestamp,
)
from outbox.models import Delivery, Event, Subscription
from outbox.worker.start import event_of, started_at_birth

from .dispatch import NewDelivery, SubscriptionPass, newborn

State = Delivery.State
Subscribers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores; if no two are alike, SQLite unites no more.
_STORED_AT_ONCE = 500


@dataclass
class Inline:
    """Lets a pass start a delivery for its own process to run.

    Attributes:
        worker: under whose name.
        takes: whether a delivery of this handler, by its pinned name, is wanted.
        started: what a pass has started. If the pass has raised, it may not be stored.
        refill: more may wait for the place that it leaves.
    """

    worker: str
    takes: Callable[[str], bool]
    started: Delivery | None = None
    refill: bool = False


class Waiting(NamedTuple):
    """What the relay reads of an event that waits for fan-out, in the order of the model."""

    seq: int
    name: str
    key: str
    share: str | None
    emitted_at: datetime
    traceparent: str


def waiting_events(*, using: str) -> Statement:
    """Take a page of the events that have no deliveries yet, as far as no other relay has them."""
    page = f"ORDER BY e.seq LIMIT {conf().FAN_OUT:d}{locking(using=using, skip_locked=True)}"
    return Statement(f"{_WAITING} {page}", is_page=True)


def waiting_of(rows: Rows, *, using: str) -> list[Waiting]:
    """Return the events of the rows that `waiting_events` has found."""
    return [Waiting(*_W.convert(row, using=using)) for row in rows]


def subscribers_of(
    events: Sequence[Waiting], rows: Sequence[Subscription] | None, *, using: str
) -> Subscribers:
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
    subscribers: dict[str, list[Subscription]] = {}
    for row in rows:
        subscribers.setdefault(row.event, []).append(row)
    return subscribers


def fan_out(
    events: Sequence[Waiting],
    subscribers: Subscribers,
    lanes: Mapping[int, SubscriptionPass],
    now: datetime,
    *,
    inline: Inline | None,
    using: str,
) -> None:
    """Make the deliveries of events, and claim for the lanes what they have room for.

    A subscription that another relay holds gets its deliveries too; a later pass sends them. One
    that goes express is stored as started, and noted there. It is the last thing in the pass's
    transaction, which is over afterwards unless it is somebody else's (`read_last`).
    """
    born = _born(events, subscribers, now=now, using=using)
    for pk, lane in lanes.items():
        if pk in born:
            born[pk] = lane.take(born[pk])
    chosen = _start_one(born, lanes, inline) if inline else None
    seqs = numbers(event.seq for event in events)
    mark = Statement(f"{_MARK} WHERE seq IN ({seqs})", (timestamp(now, using=using),))
    stored = [*_store([one for some in born.values() for one in some], now=now, using=using)]
    if chosen:  # what runs at once, must be stored
        _marked, *found = read_each(mark, *stored, event_of(chosen.seq), using=using)
    else:
        _marked, *found = read_last(mark, *stored, using=using)
    for pk, delivery_id, state, share in chain(*found[: len(stored)]):
        if state == State.SENT:
            lanes[pk].claimed.append((delivery_id, 1, 0))
            lanes[pk].share_of[delivery_id] = share
    if inline and chosen:
        lane = lanes[chosen.subscription]
        inline.refill = lane.may_more_wait
        ((delivery_id, _token, _attempts),) = lane.claimed
        lane.claimed.clear()  # it needs no message
        inline.started = started_at_birth(
            delivery_id, lane.row, found[-1][0], worker=inline.worker, at=now, using=using
        )


def _start_one(
    born: dict[int, list[NewDelivery]], lanes: Mapping[int, SubscriptionPass], inline: Inline
) -> NewDelivery | None:
    """Start a delivery that would be alone in its message, if its handler wants it express."""
    for pk, lane in lanes.items():
        sent = [one for one in born.get(pk, ()) if one.state == State.SENT]
        is_alone = len(sent) == 1 and not lane.claimed and not lane.row.ordered
        if is_alone and inline.takes(lane.row.handler):
            started = sent[0]._replace(worker=inline.worker)
            born[pk] = [started if one is sent[0] else one for one in born[pk]]
            return started
    return None


def _born(
    events: Sequence[Waiting], subscribers: Subscribers, *, now: datetime, using: str
) -> dict[int, list[NewDelivery]]:
    """Make the deliveries of events, by subscription and in order."""
    firsts = _first_of_lines(events, subscribers, using=using)
    born: dict[int, list[NewDelivery]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in subscribers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(
                seq, firsts, ordered_key=(row.handler, key)
            )
            delivery = newborn(event, row, now=now, is_behind=is_behind)
            born.setdefault(row.pk, []).append(delivery)
    return born


def _first_of_lines(
    events: Sequence[Waiting], subscribers: Subscribers, *, using: str
) -> dict[ordering.OrderedKey, int]:
    """Look at the lines that these events join. The events themselves are in them already."""
    keys = {one.key for one in events if any(row.ordered for row in subscribers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}


def _store(born: Sequence[NewDelivery], *, now: datetime, using: str) -> Iterator[Statement]:
    """Store deliveries; each statement returns subscription, id and state of some.

    Nearly all of a page are alike but for their events, so what they share stands once for all of
    them: PostgreSQL takes as long to read a row of eleven literals as it takes to store it.
    """
    for start in range(0, len(born), _STORED_AT_ONCE):
        alike: dict[object, list[NewDelivery]] = {}
        for one in born[start : start + _STORED_AT_ONCE]:
            alike.setdefault(one.shared, []).append(one)
        selects = [_select(some, now=now, using=using) for some in alike.values()]
        text = " UNION ALL ".join(one.text for one in selects)
        values = tuple(value for one in selects for value in one.values)
        yield Statement(f"{_INSERT} {text} {_RETURNING}", values)


def _select(alike: Sequence[NewDelivery], *, now: datetime, using: str) -> Statement:
    """Return rows for the INSERT: what is ours as it is, what is not by placeholders."""
    one = alike[0]
    # What differs between them, beside the event: a place in line, a share.
    given = [name for name in ("order_key", "share") if getattr(one, name) is not None]
    place = {name: f"column{number}" for number, name in enumerate(given, start=2)}
    columns = (
        "column1",
        f"{one.subscription:d}",
        f"'{one.state}'",
        instant(one.due_at, using=using),
        f"{one.token:d}",
        "%s",
        place.get("order_key", "NULL"),
        place.get("share", "NULL"),
        "1, 1" if one.worker else "0, 0",
        "%s",
        instant(now if one.worker else None, using=using),
    )
    row = f"({{:d}}{', %s' * len(given)})"
    rows = ", ".join(row.format(birth.seq) for birth in alike)
    values = [getattr(birth, name) for birth in alike for name in given]
    text = f"SELECT {', '.join(columns)} FROM (VALUES {rows}) born"  # noqa: S608  ours
    return Statement(text, (one.note, one.worker, *values))


_W = Columns(Event, alias="e", names=Waiting._fields)
_WAITING = f"SELECT {_W.text} FROM outbox_event e WHERE e.fanned_out_at IS NULL"  # noqa: S608  ours
_MARK = "UPDATE outbox_event SET fanned_out_at = %s"
_INSERT = """
INSERT INTO outbox_delivery (
    event_id, subscription_id, state, due_at, token, note, order_key, share,
    started_token, attempts, worker, started_at
)"""
_RETURNING = "RETURNING subscription_id, id, state, share"
