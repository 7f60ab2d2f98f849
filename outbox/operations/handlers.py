"""Pause, resume, end, close a breaker: what a person does to a handler as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from outbox import clock, databases, nudge
from outbox.deliveries import breaker
from outbox.deliveries.locks import lock_subscriptions
from outbox.deliveries.pauses import held_text, holding_backfill, pausable, pause_values
from outbox.models import Operation, Subscription
from outbox.subscriptions import find

from .bulk import discard
from .progress import Report, recorded
from .selection import Choice

logger = logging.getLogger("outbox.operations")

Action = Operation.Action


def pause(handler: str, *, by: str, reason: str, using: str | None = None) -> int:
    """Start none of a handler's deliveries from now on; they are parked, and delay no other's.

    What a worker has started goes on to its end. Pausing a paused handler changes nothing: the
    first person's reason stays. The pause of a running backfill is taken over: the handler stays
    paused when the backfill ends.

    Args:
        handler: its pinned name.
        by: who pauses it.
        reason: why, for whoever finds it paused.
        using: the outbox's database alias.

    Returns:
        How many of its subscriptions were running, or paused by a backfill, and are paused by this
        now; 0: it was paused already.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    using = using or databases.alias()
    running = pausable(subscriptions_of(handler, using=using))
    values = pause_values(by=by, reason=reason, using=using)
    return _change(Action.PAUSE, handler, running, by, reason, using, values)


def resume(
    handler: str,
    *,
    by: str,
    reason: str = "",
    force: bool = False,
    using: str | None = None,
) -> int:
    """Let a paused handler go on, the oldest first; let one that was ended hear again, from now on.

    Args:
        handler: its pinned name.
        by: who resumes it.
        reason: why, for the log.
        force: resume it although its backfill is not complete. New events of a key may overtake
            old ones, and the backfill stops.
        using: the outbox's database alias.

    Returns:
        How many of its subscriptions were paused or ended and run now; 0: none was.

    Raises:
        UnknownHandler: no subscription has this handler.
        HeldByBackfill: its backfill is not complete, and `force` is not given. Nothing is changed.
    """
    using = using or databases.alias()
    with transaction.atomic(using=using):
        rows = subscriptions_of(handler, using=using)
        # Locked before the look, so that no backfill takes the pause over after it.
        locked = list(rows.order_by("pk").select_for_update(no_key=True))
        backfill = holding_backfill(locked, using=using)
        if backfill is not None and not force:
            raise HeldByBackfill(handler, backfill)
        rows.filter(active=False).update(since=clock.now(using=using))
        stopped = rows.exclude(paused_at=None, active=True)
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
    """End the pause of a handler where `paused_by` has paused it; return of how many subscriptions.

    Unlike `resume` it leaves alone what has ended, and what somebody else has paused since.
    """
    rows = Subscription.objects.using(using).filter(paused_by=paused_by)  # renamed since, perhaps
    return _change(Action.RESUME, handler, rows, paused_by, "", using, _NO_PAUSE)


def close_breaker(handler: str, *, by: str, reason: str, using: str | None = None) -> int:
    """Let a handler whose breaker is open go on at once, a little at first, without a probe.

    For whoever knows that the other side is back. The breaker opens again if it is not. What has
    failed while it was open waits for the time of the next probe, unless it is retried.

    Args:
        handler: its pinned name.
        by: who closes it.
        reason: how they know, for the log.
        using: the outbox's database alias.

    Returns:
        How many of its breakers were open and are closed now; 0: none was.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    using = using or databases.alias()
    held = subscriptions_of(handler, using=using).exclude(breaker_opened_at=None)
    return _change(Action.CLOSE_BREAKER, handler, held, by, reason, using, dict(breaker.CLOSED))


def end(
    handler: str,
    *,
    by: str,
    reason: str,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """End a handler's subscriptions: it hears nothing more, and what it is owed is discarded.

    A worker that has one of them in hand loses its lease and keeps nothing of that run. `resume`
    lets the handler hear again, and `backfill` gives it what it missed.

    Args:
        handler: its pinned name.
        by: who ends it.
        reason: why, for the log and for each discarded delivery.
        report: is told how far the discarding is.
        using: the outbox's database alias.

    Returns:
        The record of it; `touched` says how many deliveries were discarded.

    Raises:
        UnknownHandler: no subscription has this handler.
    """
    using = using or databases.alias()
    rows = subscriptions_of(handler, using=using)
    with recorded(Action.END, {"handler": handler}, by=by, reason=reason, using=using) as done:
        with transaction.atomic(using=using):
            lock_subscriptions(using=using)  # a pass may know them as active
            rows.update(active=False)
        choice = Choice(handler=handler)
        discarded = discard(choice, by=by, reason=reason, report=report, using=using)
        done.touched = discarded.touched
    logger.info("%s ended %s: %s", by, handler, reason)
    return done


def subscriptions_of(handler: str, *, using: str | None = None) -> QuerySet[Subscription]:
    """Return a handler's subscriptions by its pinned name; raise `UnknownHandler` for none."""
    using = using or databases.alias()
    every = Subscription.objects.using(using)
    rows = every.filter(handler=handler)
    if not rows.exists():
        raise UnknownHandler(handler, known=set(every.values_list("handler", flat=True)))
    return rows


class UnknownHandler(LookupError):
    """No subscription has a handler of this name."""

    def __init__(self, handler: str, *, known: Iterable[str]) -> None:
        close = get_close_matches(handler, sorted(known), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        if find(handler):
            hint = " The code has it, but its subscriptions are not stored yet: run migrate."
        super().__init__(f"No subscription has the handler {handler}.{hint}")


class HeldByBackfill(ValueError):
    """The handler was not resumed, since its backfill is not complete."""

    def __init__(self, handler: str, backfill: Operation) -> None:
        text = _(
            "%(handler)s was not resumed: %(held)s To leave the rest of the backfill undone: "
            "`manage.py outbox go-on %(number)d --give-up`, which also resumes a handler that "
            "nobody else has paused. `manage.py outbox resume %(handler)s --force` lets new events "
            "of a key overtake old ones, and stops the backfill."
        )
        held = held_text(handler, backfill.pk, backfill.seen_at)
        super().__init__(text % {"handler": handler, "number": backfill.pk, "held": held})


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
    """Change the rows and record the action, in one transaction."""
    with transaction.atomic(using=using):
        changed = rows.update(**values)
        if changed:
            choice = {"handler": handler}
            with recorded(action, choice, by=by, reason=reason, using=using) as operation:
                operation.touched = changed
            transaction.on_commit(nudge.poke, using=using, robust=True)
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
