"""Operations on a whole handler: pause, resume, end, close its breaker."""

from __future__ import annotations

import logging
from contextlib import suppress

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.deliveries import breaker
from outbox.deliveries.locks import lock_subscriptions
from outbox.deliveries.pauses import holding_backfill, pausable, pause_values
from outbox.models import Operation, Subscription
from outbox.monitor.stops import backfill_stop, stop_of
from outbox.transports.nudge import nudge_of

from .bulk import discard
from .handler_rows import end_choice, subscriptions_of, subscriptions_to_end, without_removed
from .progress import GivenUp, Report, give_up, heartbeat, recorded, unfinished_of
from .selection import Choice

logger = logging.getLogger("outbox.operations")

Action = Operation.Action


def pause(handler: str, *, by: str, reason: str, using: str | None = None) -> int:
    """Stop starting a handler's deliveries. They are parked, and delay no other handler.

    Running deliveries run to their end. Pausing a paused handler changes nothing: the first reason
    stays. The pause of a running backfill is taken over: the handler stays paused when the backfill
    ends.

    Args:
        handler: its pinned name.
        by: the person or process that pauses it.
        reason: the reason, shown with the paused handler.
        using: the outbox's database alias.

    Returns:
        The number of its subscriptions that are paused by this call: they were active, or paused
        by a backfill. 0: the handler was paused already.

    Raises:
        UnknownHandler: no subscription has this handler.
        HandlerEnded: all its subscriptions have ended.
    """
    using = using or databases.alias()
    refuse_ended(handler, using=using)
    running = pausable(subscriptions_of(handler, using=using))
    values = pause_values(by=by, reason=reason, using=using)
    return _change(Action.PAUSE, handler, running, by, reason, using, values)


def refuse_ended(handler: str, *, using: str) -> None:
    """Raise `HandlerEnded` if all subscriptions of a handler have ended."""
    rows = subscriptions_of(handler, using=using)
    if not rows.filter(active=True).exists():
        raise HandlerEnded(rows.order_by("-known", "pk")[0])


def resume(
    handler: str,
    *,
    by: str,
    reason: str = "",
    force: bool = False,
    using: str | None = None,
) -> int:
    """Resume a paused handler, oldest deliveries first, or an ended one, for events from now on.

    Ended subscriptions to events that the code has removed from the handler stay ended.

    Args:
        handler: its pinned name.
        by: the person or process that resumes it.
        reason: the reason, for the log.
        force: resume it although its backfill is not complete. New events of a key may overtake
            old ones, and the backfill stops.
        using: the outbox's database alias.

    Returns:
        The number of its subscriptions that were paused or ended; 0: none was.

    Raises:
        UnknownHandler: no subscription has this handler.
        HeldByBackfill: its backfill is not complete, and `force` is not given. Nothing is changed.
    """
    using = using or databases.alias()
    with transaction.atomic(using=using):
        rows = subscriptions_of(handler, using=using)
        # Locked before the check, so that no backfill takes the pause over after it.
        locked = list(rows.order_by("pk").select_for_update(no_key=True))
        backfill = holding_backfill(locked, using=using)
        if backfill is not None and not force:
            raise HeldByBackfill(handler, backfill)
        present = without_removed(rows)
        present.filter(active=False).update(since=clock.now(using=using))
        # Otherwise `migrate` copies this pause to each new subscription of the handler.
        rows.filter(active=False, known=False).update(**_NO_PAUSE)
        stopped = present.exclude(paused_at=None, active=True)
        changed = _store(
            Action.RESUME, handler, stopped, by, reason, using, {**_NO_PAUSE, "active": True}
        )
    _log(Action.RESUME, handler, changed, by, reason)
    if backfill is not None:
        logger.warning(
            "The backfill of %s (operation %d) was not complete when %s resumed it: new events of "
            "a key may overtake old ones.",
            handler,
            backfill.pk,
            by,
        )
    return changed


def held_by(handler: str, *, using: str | None = None) -> Operation | None:
    """Return the unfinished backfill that holds a handler, or None.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    using = using or databases.alias()
    return holding_backfill(subscriptions_of(handler, using=using), using=using)


def end_pause(handler: str, *, paused_by: str, using: str) -> int:
    """End the pauses that `paused_by` has set; return the number of subscriptions.

    Unlike `resume` it does not change ended subscriptions, nor those that another has paused since.
    """
    # Not by handler: a deploy may have renamed it.
    rows = Subscription.objects.using(using).filter(paused_by=paused_by)
    return _change(Action.RESUME, handler, rows, paused_by, "", using, _NO_PAUSE)


def close_breaker(handler: str, *, by: str, reason: str, using: str | None = None) -> int:
    """Close the open breaker of a handler at once, without a probe. Its window starts small.

    Call it if you know that the external system is back. If it is not, the breaker opens again.
    Deliveries that failed meanwhile wait for the time of the next probe, unless they are retried.

    Args:
        handler: its pinned name.
        by: the person or process that closes it.
        reason: the reason, for the log.
        using: the outbox's database alias.

    Returns:
        The number of its breakers that were open; 0: none was.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    using = using or databases.alias()
    held = subscriptions_of(handler, using=using).exclude(breaker_opened_at=None)
    return _change(Action.CLOSE_BREAKER, handler, held, by, reason, using, dict(breaker.CLOSED))


def end(
    handler: str,
    *,
    event: str = "",
    by: str,
    reason: str,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """End a handler's subscriptions, or one of them, and discard their owed deliveries.

    A worker that runs one of them loses its lease, and its run commits nothing. `resume` makes the
    subscriptions active again, and `backfill` creates the deliveries that were missed.

    Args:
        handler: its pinned name.
        event: end only the subscription to this event, or to this list of events. If the handler
            had one subscription for several events, and this one was removed from its list, only
            discard the deliveries of this event. "": end all subscriptions.
        by: the person or process that ends it.
        reason: the reason, for the log and each discarded delivery.
        report: called after each step of the discard.
        using: the outbox's database alias.

    Returns:
        The operation; `touched` is the number of discarded deliveries.

    Raises:
        UnknownHandler: no subscription has this handler.
        UnknownSubscription: the handler has no such subscription, and owes no delivery of the event
            that a list has lost. Or it still subscribes to the event and to others by one
            subscription.
    """
    using = using or databases.alias()
    rows = subscriptions_to_end(handler, event, using=using)
    chosen = end_choice(handler, event)
    with suppress(GivenUp), recorded(Action.END, chosen, by=by, reason=reason, using=using) as done:
        with transaction.atomic(using=using):
            lock_subscriptions(using=using)  # a fan-out may have read them
            rows.update(active=False)
        beat = heartbeat(done, using=using)

        def after_step(step: Operation, waits_for: str) -> None:
            done.touched = step.touched
            try:
                beat()
            except GivenUp:
                give_up(step, using=using)
                raise
            if report is not None:
                report(step, waits_for)

        choice = Choice(handler=handler, subscription=event)
        step = discard(choice, by=by, reason=reason, report=after_step, using=using)
        if step.state == Operation.State.GIVEN_UP and not _has_successor(step, using=using):
            give_up(done, using=using)
    ended = f"{handler} ({event})" if event else handler
    logger.info("%s ended %s: %s", by, ended, reason)
    return done


def _has_successor(step: Operation, *, using: str) -> bool:
    """Return whether another process that continues the same `end` discards the rest."""
    return bool(unfinished_of(Action.DISCARD, step.choice, using=using))


class HandlerEnded(ValueError):
    """The handler was not paused: it runs no deliveries, since all its subscriptions have ended."""

    def __init__(self, row: Subscription) -> None:
        stop = stop_of(row, None)
        text = _("%(handler)s was not paused: %(why)s")
        super().__init__(text % {"handler": row.handler, "why": stop.text if stop else ""})


class HeldByBackfill(ValueError):
    """The handler was not resumed: its backfill is not complete."""

    def __init__(self, handler: str, backfill: Operation) -> None:
        text = _(
            "%(handler)s was not resumed. %(held)s To end the backfill: `manage.py outbox continue "
            "%(number)d --give-up`; this also resumes the handler, unless a person or rule has "
            "paused it. To resume it all the same: `manage.py outbox resume %(handler)s --force`; "
            "this stops the backfill, and new events of a key may overtake old ones."
        )
        held = backfill_stop(handler, number=backfill.pk, seen_at=backfill.seen_at)
        super().__init__(text % {"handler": handler, "number": backfill.pk, "held": held.text})


def _change(
    action: Action,
    handler: str,
    rows: QuerySet[Subscription],
    by: str,
    reason: str,
    using: str,
    values: dict[str, object],
) -> int:
    changed = _store(action, handler, rows, by, reason, using, values)
    _log(action, handler, changed, by, reason)
    return changed


def _store(
    action: Action,
    handler: str,
    rows: QuerySet[Subscription],
    by: str,
    reason: str,
    using: str,
    values: dict[str, object],
) -> int:
    """Update the rows and record the operation, in one transaction."""
    with transaction.atomic(using=using):
        changed = rows.update(**values)
        if changed:
            choice = {"handler": handler}
            with recorded(action, choice, by=by, reason=reason, using=using) as operation:
                operation.touched = changed
            transaction.on_commit(nudge_of(using), using=using, robust=True)
    return changed


def _log(action: Action, handler: str, changed: int, by: str, reason: str) -> None:
    if changed:
        text = f"{by} {_DONE[action]} {handler}" + (f": {reason}" if reason else "")
        logger.info("%s", text)


_NO_PAUSE: dict[str, object] = {"paused_at": None, "paused_by": "", "pause_reason": ""}
_DONE = {
    Action.PAUSE: "paused",
    Action.RESUME: "resumed",
    Action.CLOSE_BREAKER: "closed the breaker of",
}
