"""Fan-out: create one delivery of an event for each of its subscriptions.

The number of statements does not depend on the number of events in a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from outbox.conf import conf
from outbox.deliveries import ordering
from outbox.deliveries.lease import event_of, started_by_relay
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
from outbox.transports.base import StartingTransport

from .dispatch import NewDelivery, SubscriptionPass, newborn

State = Delivery.State
Subscribers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores. SQLite allows as many SELECTs in one UNION ALL.
_STORED_AT_ONCE = 500


class Waiting(NamedTuple):
    """Columns of an event that waits for fan-out, in the order of the model."""

    seq: int
    name: str
    key: str
    share: str | None
    emitted_at: datetime
    traceparent: str


def waiting_events(*, using: str) -> Statement:
    """Lock a page of the events that wait for fan-out and that no other relay has locked."""
    page = f"ORDER BY e.seq LIMIT {conf().FAN_OUT:d}{locking(using=using, skip_locked=True)}"
    return Statement(f"{_WAITING} {page}", is_page=True)


def waiting_of(rows: Rows, *, using: str) -> list[Waiting]:
    """Return the events of the rows of `waiting_events`."""
    return [Waiting(*_W.convert(row, using=using)) for row in rows]


def subscribers_of(
    events: Sequence[Waiting], rows: Sequence[Subscription] | None, *, using: str
) -> Subscribers:
    """Return the subscriptions of the events, by event name.

    Args:
        events: the locked events.
        rows: all active subscriptions, read after the events; None: read them here.
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
    passes: Mapping[int, SubscriptionPass],
    now: datetime,
    *,
    inline: StartingTransport | None,
    using: str,
) -> None:
    """Store the deliveries of events, and claim those for which `passes` have room.

    Deliveries of a subscription that another relay has locked are stored too. A later pass sends
    them. A delivery that `inline` accepts is stored as started. These are
    the last statements of the pass's transaction. They also end it, unless the caller opened it
    (`read_last`).
    """
    new = _new_deliveries(events, subscribers, now=now, using=using)
    for pk, subscription_pass in passes.items():
        if pk in new:
            new[pk] = subscription_pass.take(new[pk])
    chosen = _start_one(new, passes, inline) if inline else None
    seqs = numbers(event.seq for event in events)
    mark = Statement(f"{_MARK} WHERE seq IN ({seqs})", (timestamp(now, using=using),))
    stored = [*_store([one for some in new.values() for one in some], now=now, using=using)]
    if chosen:  # its COMMIT must be on disk before it runs
        _marked, *found = read_each(mark, *stored, event_of(chosen.seq), using=using)
    else:
        _marked, *found = read_last(mark, *stored, using=using)
    for pk, delivery_id, state, share in chain(*found[: len(stored)]):
        if state == State.SENT:
            passes[pk].claimed.append((delivery_id, 1, 0))
            passes[pk].share_of[delivery_id] = share
    if inline and chosen:
        subscription_pass = passes[chosen.subscription]
        refill = subscription_pass.may_more_wait
        ((delivery_id, _token, _attempts),) = subscription_pass.claimed
        subscription_pass.claimed.clear()  # it needs no message
        started = started_by_relay(
            delivery_id,
            subscription_pass.row,
            found[-1][0],
            worker=inline.worker,
            at=now,
            using=using,
        )
        inline.accept(started, refill=refill)


def _start_one(
    new: dict[int, list[NewDelivery]],
    passes: Mapping[int, SubscriptionPass],
    inline: StartingTransport,
) -> NewDelivery | None:
    """Start a delivery that would be alone in its message, if `inline` accepts its handler."""
    for pk, subscription_pass in passes.items():
        row = subscription_pass.row
        sent = [one for one in new.get(pk, ()) if one.state == State.SENT]
        is_alone = len(sent) == 1 and not subscription_pass.claimed and not row.ordered
        if is_alone and inline.accepts(row.handler):
            started = sent[0]._replace(worker=inline.worker)
            new[pk] = [started if one is sent[0] else one for one in new[pk]]
            return started
    return None


def _new_deliveries(
    events: Sequence[Waiting], subscribers: Subscribers, *, now: datetime, using: str
) -> dict[int, list[NewDelivery]]:
    """Return the new deliveries of events by subscription id, in order of the events."""
    firsts = _first_of_lines(events, subscribers, using=using)
    new: dict[int, list[NewDelivery]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in subscribers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(
                seq, firsts, ordered_key=(row.handler, key)
            )
            delivery = newborn(event, row, now=now, is_behind=is_behind)
            new.setdefault(row.pk, []).append(delivery)
    return new


def _first_of_lines(
    events: Sequence[Waiting], subscribers: Subscribers, *, using: str
) -> dict[ordering.OrderedKey, int]:
    """Return the first owed event of each ordered key, these events included."""
    keys = {one.key for one in events if any(row.ordered for row in subscribers.get(one.name, ()))}
    return ordering.first_of(keys, using=using) if keys else {}


def _store(new: Sequence[NewDelivery], *, now: datetime, using: str) -> Iterator[Statement]:
    """Yield statements that store deliveries and return their subscription, id and state.

    Most deliveries of a page differ only in their events. So the columns they share are written
    once: PostgreSQL takes as long to parse a row of eleven literals as to store it.
    """
    for start in range(0, len(new), _STORED_AT_ONCE):
        alike: dict[object, list[NewDelivery]] = {}
        for one in new[start : start + _STORED_AT_ONCE]:
            alike.setdefault(one.shared, []).append(one)
        selects = [_select(some, now=now, using=using) for some in alike.values()]
        text = " UNION ALL ".join(one.text for one in selects)
        values = tuple(value for one in selects for value in one.values)
        yield Statement(f"{_INSERT} {text} {_RETURNING}", values)


def _select(alike: Sequence[NewDelivery], *, now: datetime, using: str) -> Statement:
    """Return rows for the INSERT: own values as literals, values of users as parameters."""
    one = alike[0]
    # Columns that differ between them, apart from the event.
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
    rows = ", ".join(row.format(delivery.seq) for delivery in alike)
    values = [getattr(delivery, name) for delivery in alike for name in given]
    text = f"SELECT {', '.join(columns)} FROM (VALUES {rows}) new_rows"  # noqa: S608  ours
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
