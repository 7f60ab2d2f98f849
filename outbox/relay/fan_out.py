"""Fan-out: create one delivery of an event for each of its subscriptions, place and store them.

The number of statements does not depend on the number of events in a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, compress
from typing import Any, NamedTuple

from outbox.deliveries import ordering, priorities, settlement
from outbox.deliveries.lease import event_of, started_by_relay
from outbox.deliveries.statements import (
    Statement,
    instant,
    numbers,
    read_each,
    read_last,
    timestamp,
)
from outbox.events import selects
from outbox.models import Delivery, Subscription
from outbox.models.deliveries import TASK_EVENTS
from outbox.transports.base import StartingTransport

from .backlog import Waiting
from .dispatch import SubscriptionPass

State = Delivery.State
Subscribers = Mapping[str, Sequence[Subscription]]

#: Deliveries that one INSERT stores. SQLite allows as many SELECTs in one UNION ALL.
_STORED_AT_ONCE = 500


class NewDelivery(NamedTuple):
    """A delivery that is about to be stored."""

    seq: int
    subscription: int
    state: str
    due_at: datetime
    token: int = 0
    note: str = ""
    order_key: str | None = None
    share: str | None = None
    #: Whether its event has a priority, which the statement reads from the payload.
    has_priority: bool = False
    #: Worker that has already started it, or "".
    worker: str = ""

    @property
    def shared(self) -> tuple[object, ...]:
        """Columns that most other deliveries of the same page share with it."""
        given = (self.order_key is not None, self.share is not None, self.has_priority)
        return self.subscription, self.state, self.due_at, self.token, self.note, given, self.worker


def subscribers_of(
    events: Sequence[Waiting], rows: Sequence[Subscription] | None, *, using: str
) -> Subscribers:
    """Return the subscriptions of the events, by event name.

    Args:
        events: the locked events.
        rows: all active subscriptions, read after the events; None: read them here.
        using: the outbox's database alias.
    """
    if rows is None:
        rows = list(Subscription.objects.using(using).filter(active=True).order_by("id"))
    names = {event.name for event in events}
    return {name: [row for row in rows if selects(row.event, name)] for name in names}


def fan_out(
    events: Sequence[Waiting],
    passes: Mapping[int, SubscriptionPass],
    now: datetime,
    *,
    are_all: bool,
    inline: StartingTransport | None,
    using: str,
) -> None:
    """Store the deliveries of locked events, and claim those for which `passes` have room.

    Deliveries of a subscription that another relay has locked are stored too. A later pass sends
    them. A delivery that `inline` accepts is stored as started. These are the last statements of
    the pass's transaction. They also end it, unless the caller opened it (`read_last`).

    Args:
        events: the events.
        passes: the subscription passes, by id.
        now: the time of the pass.
        are_all: `passes` has all active subscriptions, read after the events were locked.
        inline: the transport for which a delivery may be started.
        using: the outbox's database alias.
    """
    rows = [one.row for one in passes.values()] if are_all else None
    subscribers = subscribers_of(events, rows, using=using)
    new = _new_deliveries(events, subscribers, now=now, using=using)
    for pk, subscription_pass in passes.items():
        if pk in new:
            new[pk] = _placed(new[pk], subscription_pass)
    chosen = _start_one(new, passes, inline) if inline else None
    seqs = numbers(event.seq for event in events)
    mark = Statement(f"{_MARK} WHERE seq IN ({seqs})", (timestamp(now, using=using),))
    stored = [*store([one for some in new.values() for one in some], now=now, using=using)]
    if chosen:  # its COMMIT must be on disk before it runs
        _marked, *found = read_each(mark, *stored, event_of(chosen.seq), using=using)
    else:
        _marked, *found = read_last(mark, *stored, using=using)
    for pk, delivery_id, state, share in chain(*found[: len(stored)]):
        if state == State.SENT:
            passes[pk].claimed.append((delivery_id, 1, 0))
            passes[pk].share_of[delivery_id] = share
    if inline and chosen:
        _hand_over(passes[chosen.subscription], found[-1][0], inline, using=using)


def _new_deliveries(
    events: Sequence[Waiting], subscribers: Subscribers, *, now: datetime, using: str
) -> dict[int, list[NewDelivery]]:
    """Return the new deliveries of events by subscription id, in order of the events."""
    keys = {one.key for one in events if any(row.ordered for row in subscribers.get(one.name, ()))}
    firsts = ordering.first_of(keys, using=using) if keys else {}  # these events included
    new: dict[int, list[NewDelivery]] = {}
    for event in events:
        seq, key = event.seq, event.key
        for row in subscribers.get(event.name, ()):
            is_behind = row.ordered and ordering.is_behind(
                seq, firsts, ordered_key=(row.handler, key)
            )
            delivery = _new(event, row, now=now, is_behind=is_behind)
            new.setdefault(row.pk, []).append(delivery)
    return new


def _new(event: Waiting, row: Subscription, *, now: datetime, is_behind: bool) -> NewDelivery:
    """Create an event's delivery: blocked if `is_behind` an owed one of its key."""
    order_key = event.key if row.ordered else None
    share = event.share if row.share_window else None
    made = NewDelivery(
        event.seq,
        row.pk,
        State.PENDING,
        now,
        order_key=order_key,
        share=share,
        has_priority=row.event.startswith(TASK_EVENTS),
    )
    if is_behind:
        due_at, note = ordering.first_check(now), ordering.NOTE
        return made._replace(state=State.BLOCKED, due_at=due_at, note=note)
    return made


def _placed(new: Sequence[NewDelivery], subscription_pass: SubscriptionPass) -> list[NewDelivery]:
    """Mark new deliveries, oldest first, as sent while there is room, or as parked if held."""
    row = subscription_pass.row
    pending = [one for one in new if one.state == State.PENDING]
    if row.is_held:
        values: dict[str, Any] = {"state": State.PARKED, "note": settlement.parking_note(row)}
        chosen = pending
    else:
        values = {"state": State.SENT, "token": 1, "due_at": subscription_pass.lease_until}
        number = min(subscription_pass.room, len(pending))
        if row.share_window is None:
            number = subscription_pass.whole(number)
        else:
            pending = [one for one in pending if subscription_pass.has_share(one.share)]
        if number < len(pending) and row.has_priorities:
            number = 0  # the next pass claims them by priority
        chosen = pending[:number]
        if slots := subscription_pass.slots:
            fits = subscription_pass.fitting([(one.share, 0) for one in chosen], slots)
            chosen = [*compress(chosen, fits)]
    seqs = {one.seq for one in chosen}
    return [one._replace(**values) if one.seq in seqs else one for one in new]


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


def store(new: Sequence[NewDelivery], *, now: datetime, using: str) -> Iterator[Statement]:
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
        _priority(alike, using=using) if one.has_priority else _NO_PRIORITY,
        "1, 1" if one.worker else "0, 0",
        "%s",
        instant(now if one.worker else None, using=using),
    )
    row = f"({{:d}}{', %s' * len(given)})"
    rows = ", ".join(row.format(delivery.seq) for delivery in alike)
    values = [getattr(delivery, name) for delivery in alike for name in given]
    text = f"SELECT {', '.join(columns)} FROM (VALUES {rows}) new_rows"  # noqa: S608  ours
    return Statement(text, (one.note, one.worker, *values))


def _priority(alike: Sequence[NewDelivery], *, using: str) -> str:
    return priorities.of_event("column1", using=using)


def _hand_over(
    subscription_pass: SubscriptionPass,
    event: Sequence[Any],
    inline: StartingTransport,
    *,
    using: str,
) -> None:
    """Give the delivery that was stored as started to its transport: it needs no message."""
    refill = subscription_pass.may_more_wait
    ((delivery_id, _token, _attempts),) = subscription_pass.claimed
    subscription_pass.claimed.clear()
    row, at = subscription_pass.row, subscription_pass.now
    started = started_by_relay(delivery_id, row, event, worker=inline.worker, at=at, using=using)
    inline.accept(started, refill=refill)


#: With a type: PostgreSQL takes an untyped NULL of a UNION for a text.
_NO_PRIORITY = "CAST(NULL AS smallint)"
_MARK = "UPDATE outbox_event SET fanned_out_at = %s"
_INSERT = """
INSERT INTO outbox_delivery (
    event_id, subscription_id, state, due_at, token, note, order_key, share, priority,
    started_token, attempts, worker, started_at
)"""
_RETURNING = "RETURNING subscription_id, id, state, share"
