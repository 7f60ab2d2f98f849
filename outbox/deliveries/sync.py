"""Sync the subscription rows with this code's handlers, at the end of `migrate`."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from outbox import clock, databases
from outbox.conf import conf
from outbox.models import Subscription
from outbox.subscriptions import Handler, registry

from . import breaker
from .joining import join_names, names_of, rows_of, split_rows
from .locks import wait_for_passes
from .ordering import lacks_order_keys, set_missing_order_keys, set_order_keys
from .shares import set_shares
from .transient_errors import retry_transient

logger = logging.getLogger("outbox.sync")


def sync_subscriptions(*, using: str | None = None) -> list[Subscription]:
    """Add, update and mark the subscription rows. Only staff end a subscription.

    A handler that this code no longer has keeps its row, marked unknown. Its owed deliveries are
    parked and stay visible. They continue after `migrate` of a release that has the handler.

    Returns:
        The rows that it marked unknown. Those that were unknown before are not among them.
    """
    using = using or databases.alias()
    # Each step retries after a deadlock with a worker that locks a delivery, then a subscription.
    retry_transient(partial(join_names, using=using), using=using)
    for handler in registry:
        changes = _changes_owed_deliveries(handler, using=using)
        if changes or _was_not_completed(handler, using=using):
            retry_transient(partial(_sync_alone, handler, using=using), using=using)
            retry_transient(partial(_complete, handler, using=using), using=using)
    marked = retry_transient(partial(_sync, using=using), using=using)
    retry_transient(partial(split_rows, using=using), using=using)
    unknown = Subscription.objects.using(using).filter(pk__in=marked, known=False)
    return list(unknown.order_by("handler", "event"))


def _changes_owed_deliveries(handler: Handler, *, using: str) -> bool:
    """Return whether owed deliveries gain or lose an order key or a share."""
    policies = _rows_of(handler, using=using).values_list("ordered", "on_dead", "share_window")
    return any(
        (ordered, on_dead, window is None)
        != (handler.ordered, handler.on_dead, handler.share_window is None)
        for ordered, on_dead, window in policies
    )


def _was_not_completed(handler: Handler, *, using: str) -> bool:
    """Return whether an earlier `migrate` died between `_sync_alone` and `_complete`."""
    return any(lacks_order_keys(row, using=using) for row in _rows_of(handler, using=using))


def _sync_alone(handler: Handler, *, using: str) -> None:
    """Sync one handler without locking rows of others, since it may wait for its workers."""
    with transaction.atomic(using=using):
        rows = _locked(_rows_of(handler, using=using))
        for selector in handler.selectors:
            _sync_one(rows, handler, selector, using=using)


def _complete(handler: Handler, *, using: str) -> None:
    """Set the order key and share of deliveries that were stored by the policy from before.

    Relays do not wait for `_sync_alone`: meanwhile they go by the rows as they were committed.
    """
    wait_for_passes(using=using)
    with transaction.atomic(using=using):
        for row in _locked(_rows_of(handler, using=using)).values():
            set_missing_order_keys(row, using=using)
            if row.share_window:
                set_shares(row, using=using)


def _sync(*, using: str) -> list[int]:
    """Sync all rows; return the ids of those that it marked unknown."""
    with transaction.atomic(using=using):
        rows = _locked(Subscription.objects.using(using))
        wanted = [(handler, selector) for handler in registry for selector in handler.selectors]
        for handler, selector in wanted:
            _sync_one(rows, handler, selector, using=using)
        known = {(handler.name, selector) for handler, selector in wanted}
        return _mark_unknown(rows, known, using=using)


def _rows_of(handler: Handler, *, using: str) -> QuerySet[Subscription]:
    return Subscription.objects.using(using).filter(handler__in=names_of(handler))


def _locked(rows: QuerySet[Subscription]) -> dict[tuple[str, str], Subscription]:
    # Lock in the order of the relays, which avoids deadlocks. With `no_key`, relays can insert
    # deliveries meanwhile, so a deploy does not block them.
    locked = rows.order_by("id").select_for_update(no_key=True)
    return {(row.handler, row.event): row for row in locked}


def _sync_one(
    rows: dict[tuple[str, str], Subscription], handler: Handler, selector: str, *, using: str
) -> None:
    row = _take_over(rows, handler, selector, using=using)
    if row is None:
        row = Subscription(
            event=selector, since=clock.now(using=using), window_now=conf().FIRST_WINDOW
        )
        _pause_like_the_others(row, rows, handler)
    before = _policy(row)
    if row.event != selector:  # it did not select all of these events until now
        row.since = clock.now(using=using)
    row.handler, row.event, row.known = handler.name, selector, True
    row.queue, row.atomic, row.batch = handler.queue, handler.atomic, handler.batch
    row.bulk = handler.bulk
    row.consumers = ",".join(handler.settled_by.consumers) if handler.settled_by else ""
    row.attempts, row.lease_seconds = handler.attempts, handler.lease
    row.backoff_base, row.backoff_cap = handler.backoff_base, handler.backoff_cap
    row.window = handler.window
    had_shares, row.share_window = row.share_window is not None, handler.share_window
    was = (row.ordered, row.on_dead)
    row.ordered, row.on_dead = handler.ordered, handler.on_dead
    if handler.breaker is None:
        _close_breaker(row)
    row.window_now = min(max(row.window_now, 1), handler.window)
    rows[handler.name, selector] = row
    if row._state.adding or _policy(row) != before:
        row.save(using=using)
    if was != (row.ordered, row.on_dead):
        set_order_keys(row, using=using)
    if had_shares != (row.share_window is not None):
        set_shares(row, using=using)


def _pause_like_the_others(
    row: Subscription, rows: dict[tuple[str, str], Subscription], handler: Handler
) -> None:
    """Pause a new subscription of a paused handler: a pause covers all its subscriptions."""
    names = names_of(handler)
    for (name, _event), other in rows.items():
        if name in names and other.paused_at:
            row.paused_at, row.paused_by = other.paused_at, other.paused_by
            row.pause_reason = other.pause_reason


def _close_breaker(row: Subscription) -> None:
    for name, value in breaker.CLOSED.items():
        setattr(row, name, value)


def _policy(row: Subscription) -> tuple[object, ...]:
    return (
        row.handler,
        row.event,
        row.known,
        row.queue,
        row.atomic,
        row.batch,
        row.bulk,
        row.consumers,
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
    rows: dict[tuple[str, str], Subscription], handler: Handler, selector: str, *, using: str
) -> Subscription | None:
    """Return the handler's row, under its present or a former name or selector.

    `join_names` has left one row. If a `migrate` of another release has added one since, the next
    `migrate` of this release joins them.
    """
    found = rows_of(handler, selector, rows.values())
    if not found:
        return None
    row = rows.pop((found[0].handler, found[0].event))
    if row.handler != handler.name:
        done = partial(logger.info, "%s takes over from %s", handler.name, row.handler)
        transaction.on_commit(done, using=using)
    return row


def _mark_unknown(
    rows: dict[tuple[str, str], Subscription], wanted: set[tuple[str, str]], *, using: str
) -> list[int]:
    unknown = [row.pk for pair, row in rows.items() if pair not in wanted and row.known]
    Subscription.objects.using(using).filter(pk__in=unknown).update(known=False)
    return unknown
