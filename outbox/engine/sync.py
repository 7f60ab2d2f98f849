"""Bring the subscription rows in line with this code's handlers; `migrate` ends with it."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from outbox import clock, databases
from outbox.conf import conf
from outbox.models import Delivery, Event, Subscription
from outbox.subscriptions import Handler, registry

from . import breaker
from .locks import lock_subscriptions
from .transient_errors import retry_transient

logger = logging.getLogger("outbox.sync")

State = Delivery.State


def sync_subscriptions(*, using: str | None = None) -> None:
    """Add, update and mark the subscription rows. Ending one is a person's explicit step.

    A handler that this code no longer has keeps its row, marked unknown: what it is owed is parked,
    visible, and goes on when a release that has the handler is migrated.
    """
    using = using or databases.alias()
    # Again, if it meets a worker that waits for a subscription with a delivery's lock in hand.
    retry_transient(partial(_sync, using=using), using=using)


def _sync(*, using: str) -> None:
    with transaction.atomic(using=using):
        # In the order of relays, and no_key, so that the deliveries which they make meanwhile need
        # not wait: a deploy would hold them up, or end in a deadlock.
        locked = Subscription.objects.using(using).order_by("id").select_for_update(no_key=True)
        rows = {(row.handler, row.event): row for row in locked}
        wanted = [(handler, event) for handler in registry for event in handler.events]
        for handler, event in wanted:
            _sync_one(rows, handler, event, using=using)
        _mark_unknown(rows, {(handler.name, event) for handler, event in wanted}, using=using)


def _sync_one(
    rows: dict[tuple[str, str], Subscription], handler: Handler, event: str, *, using: str
) -> None:
    row = _take_over(rows, handler, event, using=using)
    if row is None:
        row = Subscription(
            event=event, since=clock.now(using=using), window_now=conf().FIRST_WINDOW
        )
    before = _policy(row)
    row.handler, row.known = handler.name, True
    row.queue, row.atomic, row.batch = handler.queue, handler.atomic, handler.batch
    row.attempts, row.lease_seconds = handler.attempts, handler.lease
    row.backoff_base, row.backoff_cap = handler.backoff_base, handler.backoff_cap
    row.window = handler.window
    had_shares, row.share_window = row.share_window is not None, handler.share_window
    was = (row.ordered, row.on_dead)
    row.ordered, row.on_dead = handler.ordered, handler.on_dead
    if handler.breaker is None:
        _close_breaker(row)
    row.window_now = min(max(row.window_now, 1), handler.window)
    rows[handler.name, event] = row
    if row._state.adding or _policy(row) != before:
        row.save(using=using)
    if was != (row.ordered, row.on_dead):
        _line_up(row, using=using)
    if had_shares != (row.share_window is not None):
        _fill_shares(row, using=using)


def _close_breaker(row: Subscription) -> None:
    for name, value in breaker.CLOSED.items():
        setattr(row, name, value)


def _line_up(row: Subscription, *, using: str) -> None:
    """Give what is owed its place in line, or take it, as the handler has become ordered or not.

    Nothing is blocked here: a worker asks before it starts.
    """
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    if row.ordered:
        key = Event.objects.using(using).filter(pk=OuterRef("event")).values("key")
        owed.update(order_key=Subquery(key))
    if not row.ordered or row.on_dead == Subscription.OnDead.PASS:
        gone = owed.filter(state=State.DEAD) if row.ordered else owed
        gone.update(order_key=None)
    blocked = owed.filter(state=State.BLOCKED)
    blocked.update(due_at=clock.now(using=using))  # the relay looks again
    if not row.ordered:
        blocked.update(state=State.PENDING, note="")


def _fill_shares(row: Subscription, *, using: str) -> None:
    """Store the shares of what is owed, or forget them, as the handler has a limit now or not."""
    owed = Delivery.objects.using(using).filter(subscription=row, state__in=Delivery.OWED)
    share = Event.objects.using(using).filter(pk=OuterRef("event")).values("share")
    owed.update(share=Subquery(share) if row.share_window else None)


def _policy(row: Subscription) -> tuple[object, ...]:
    return (
        row.handler,
        row.known,
        row.queue,
        row.atomic,
        row.batch,
        row.window,
        row.window_now,
        row.share_window,
        row.lease_seconds,
        row.attempts,
        row.backoff_base,
        row.backoff_cap,
        row.ordered,
        row.on_dead,
        row.breaker_opened_at,
        row.breaker_failures,
    )


def _take_over(
    rows: dict[tuple[str, str], Subscription], handler: Handler, event: str, *, using: str
) -> Subscription | None:
    """Return the handler's row: its own, or the one of a former name."""
    row = rows.get((handler.name, event))
    for name in handler.formerly:
        old = rows.pop((name, event), None)
        if old is None:
            continue
        logger.info("%s takes over from %s", handler.name, name)
        if row is None:
            row = old
        else:
            _merge(old, row, using=using)
    return row


def _merge(old: Subscription, row: Subscription, *, using: str) -> None:
    """Join two rows of one handler, whose renaming was rolled back and comes once more.

    The events between were owed to both names. Of the two deliveries of an event the one stays
    that got furthest, so that nothing is run again, and nothing is lost. The old row goes.
    """
    lock_subscriptions(using=using)  # no relay makes a delivery for the old row meanwhile
    deliveries = Delivery.objects.using(using)
    of_both = deliveries.filter(subscription=old).values("event")
    twice = deliveries.filter(subscription=row, event__in=of_both)
    pairs: dict[int, list[Delivery]] = {}
    rows = deliveries.filter(
        subscription__in=(old, row), event__in=list(twice.values_list("event", flat=True))
    ).order_by("id")
    for one in rows.select_for_update():
        pairs.setdefault(one.event_id, []).append(one)
    left = [min(pair, key=partial(_progress, new=row)).pk for pair in pairs.values()]
    deliveries.filter(pk__in=left).delete()
    moved = deliveries.filter(subscription=old)
    # The messages of what is on its way name the row that it leaves: it is sent again.
    on_their_way = moved.filter(state=State.SENT, started_token__lt=F("token"))
    on_their_way.update(
        state=State.PENDING,
        due_at=clock.now(using=using),
        note="its handler's two names became one",
    )
    moved.update(subscription=row)
    old.delete(using=using)


def _progress(delivery: Delivery, *, new: Subscription) -> tuple[int, bool]:
    """Return how far a delivery got: done, in hand, tried or sent, not tried, discarded."""
    if delivery.state == State.DONE:
        far = 4
    elif delivery.is_started:
        far = 3
    elif delivery.state == State.DISCARDED:
        far = 0
    else:
        far = 2 if delivery.attempts or delivery.state == State.SENT else 1
    return far, delivery.subscription_id == new.pk


def _mark_unknown(
    rows: dict[tuple[str, str], Subscription], wanted: set[tuple[str, str]], *, using: str
) -> None:
    gone = [row.pk for pair, row in rows.items() if pair not in wanted and row.known]
    Subscription.objects.using(using).filter(pk__in=gone).update(known=False)
