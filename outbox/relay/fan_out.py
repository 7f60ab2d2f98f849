"""Fan-out: create one delivery of an event for each of its subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain

from outbox.deliveries.lease import event_of, started_by_relay
from outbox.deliveries.statements import Statement, numbers, read_each, read_last, timestamp
from outbox.models import Delivery, Subscription
from outbox.transports.base import StartingTransport

from .backlog import Waiting
from .dispatch import SubscriptionPass
from .new_deliveries import NewDelivery, Subscribers, new_deliveries, store

State = Delivery.State


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
    new = new_deliveries(events, subscribers, now=now, using=using)
    for pk, subscription_pass in passes.items():
        if pk in new:
            new[pk] = subscription_pass.take(new[pk])
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


_MARK = "UPDATE outbox_event SET fanned_out_at = %s"
