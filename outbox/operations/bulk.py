"""Retry, discard and replay: the eligible deliveries and the changes to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Max, QuerySet

from outbox import clock, databases
from outbox.deliveries import ordering, replays
from outbox.deliveries.locks import share_subscriptions
from outbox.models import Delivery, Operation, Subscription
from outbox.settlements import expecting

from .handler_rows import subscriptions_of
from .progress import RATE, Report, Touched, begin, carry_out
from .selection import Choice

logger = logging.getLogger("outbox.operations")

State = Delivery.State
Action = Operation.Action

_SHOWN = 20


def retry(
    choice: Choice,
    *,
    by: str,
    reason: str = "",
    rate: float | None = RATE,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """Make the deliveries that `retryable` returns due now. Other deliveries do not change.

    A dead delivery gets its full number of attempts again. Its failed attempts stay stored.

    Args:
        choice: the deliveries.
        by: the person or process that retries, for example "user:7" or "cli:ann".
        reason: the reason, for the log.
        rate: most deliveries a second; None: no limit.
        report: called after each step with the operation and the reason for waiting.
        using: the outbox's database alias.

    Returns:
        The operation; `touched` is the number of deliveries that were made due.
    """
    using = using or databases.alias()
    return _carry_out(Action.RETRY, choice, by, reason, rate, report, using)


def discard(
    choice: Choice,
    *,
    by: str,
    reason: str,
    rate: float | None = RATE,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """Settle deliveries without running the handler. Sent deliveries do not change.

    The handler never receives these events, except by a replay. Arguments as for `retry`.
    """
    using = using or databases.alias()
    return _carry_out(Action.DISCARD, choice, by, reason, rate, report, using)


def replay(
    choice: Choice,
    *,
    by: str,
    reason: str,
    rate: float | None = RATE,
    report: Report | None = None,
    using: str | None = None,
) -> Operation:
    """Run the handlers of settled deliveries again.

    The receipt is reset and kept as an attempt, `replayed`. The relay sends the delivery under a
    new token, so a run that still holds the old one cannot settle it. Repeating the effect must be
    safe for the handler: `dry_run` shows it beforehand. Arguments as for `retry`.

    Raises:
        StillRunning: the same replay is not finished.
    """
    using = using or databases.alias()
    return _carry_out(Action.REPLAY, choice, by, reason, rate, report, using)


def retryable(
    rows: QuerySet[Delivery] | None = None, *, using: str | None = None
) -> QuerySet[Delivery]:
    """Return the deliveries that `retry` would change, of `rows` or of all.

    They are dead, wait for the next attempt, or are parked without a reason. Excluded are sent
    deliveries, due ones, and those parked for a paused or unknown handler (resume or deploy it).
    """
    using = using or databases.alias()
    active = Subscription.objects.using(using).filter(active=True)
    held = _pks(active.exclude(paused_at=None, known=True))
    # By exclusion: SQLite's planner fails on a disjunction of states that partial indexes match.
    return (
        _of(rows, using=using)
        .filter(subscription__in=_pks(active), state__in=(State.DEAD, State.PENDING, State.PARKED))
        .exclude(state=State.PENDING, due_at__lte=clock.now(using=using))
        .exclude(state=State.PARKED, subscription__in=held)
    )


def discardable(
    rows: QuerySet[Delivery] | None = None, *, subscription: str = "", using: str | None = None
) -> QuerySet[Delivery]:
    """Return the deliveries that `discard` would change: owed ones that are not sent.

    Sent deliveries of an ended subscription are included: no worker runs them. With the
    `subscription` of a choice, so are those of other subscriptions, which no longer select them.
    """
    using = using or databases.alias()
    owed = _of(rows, using=using).filter(state__in=Delivery.OWED)
    active = Subscription.objects.using(using).filter(active=True)
    if subscription:
        active = active.filter(event=subscription)
    return owed.exclude(state=State.SENT, subscription__in=_pks(active))


def replayable(
    rows: QuerySet[Delivery] | None = None, *, using: str | None = None
) -> QuerySet[Delivery]:
    """Return the deliveries that `replay` would change: settled ones of active subscriptions."""
    using = using or databases.alias()
    active = _pks(Subscription.objects.using(using).filter(active=True))
    settled = _of(rows, using=using).filter(state__in=Delivery.SETTLED)
    return settled.filter(subscription__in=active)


#: The query for the eligible deliveries of each action.
ELIGIBLE: Mapping[str, Callable[..., QuerySet[Delivery]]] = {
    Action.RETRY: retryable,
    Action.DISCARD: discardable,
    Action.REPLAY: replayable,
}


def chosen(action: str, choice: Choice, *, using: str | None = None) -> QuerySet[Delivery]:
    """Return the deliveries of a choice that are eligible for an action."""
    using = using or databases.alias()
    rows = choice.deliveries(using=using)
    if action == Action.DISCARD:
        return discardable(rows, subscription=choice.subscription, using=using)
    return ELIGIBLE[action](rows, using=using)


@dataclass(frozen=True)
class BulkTask:
    """Retry, discard or replay of a choice, carried out in slices."""

    action: str
    choice: Choice
    using: str

    def find(self, *, after: int, until: int, limit: int) -> Sequence[int]:
        """Return the ids of the next deliveries."""
        rows = chosen(self.action, self.choice, using=self.using)
        rows = rows.filter(pk__gt=after, pk__lte=until).order_by("pk")
        return list(rows.values_list("pk", flat=True)[:limit])

    def touch(self, pks: Sequence[int], operation: Operation) -> Touched:
        """Lock the deliveries that are still chosen, by id as workers do, and change them.

        It stops before the first delivery that another transaction has locked. A receipt block may
        hold this lock as long as its lease, and a step that waited would delay `end`, which needs
        the lock of the subscriptions table. A replay also stops before the first delivery of the
        day that is being removed.
        """
        share_subscriptions(using=self.using)  # so that none of them ends
        # Under the choice again: one that is retried since `find` must not be discarded.
        rows = chosen(self.action, self.choice, using=self.using)
        rows = rows.filter(pk__in=pks).order_by("pk")
        locked = _pks(rows.select_for_update(of=("self",), skip_locked=True))
        found = set(locked)
        busy = next((pk for pk in _pks(rows) if pk not in found), None)
        if busy is not None:
            pks, locked = _before(busy, pks), _before(busy, locked)
        if locked:
            _CHANGES[self.action](
                Delivery.objects.using(self.using).filter(pk__in=locked), operation
            )
            _log(locked, operation)
        return Touched(len(locked), pks[-1] if pks else None)

    def finish(self, operation: Operation) -> None:
        """Check that the handler still exists.

        Raises:
            UnknownHandler: a deploy has renamed it. Only the code of that release can continue.
        """
        choice, is_partial = self.choice, operation.touched < operation.expected
        if is_partial and choice.handler and not choice.subscriptions(using=self.using):
            subscriptions_of(choice.handler, using=self.using)

    def reason_to_wait(self) -> str:
        """Return "": the relay's window limits the deliveries in flight."""
        return ""


def _carry_out(
    action: str,
    choice: Choice,
    by: str,
    reason: str,
    rate: float | None,
    report: Report | None,
    using: str,
) -> Operation:
    rows = chosen(action, choice, using=using)
    operation = begin(
        action,
        choice.as_json(),
        by=by,
        reason=reason,
        expected=rows.count(),
        until=Delivery.objects.using(using).aggregate(last=Max("pk"))["last"] or 0,
        rate=rate,
        using=using,
    )
    return carry_out(operation, BulkTask(action, choice, using), report=report, using=using)


def _retry(rows: QuerySet[Delivery], operation: Operation) -> None:
    rows.filter(state=State.DEAD).update(attempts=0)
    expecting.expect_again(rows)
    replays.join_queue(rows)  # a dead delivery may have left the queue of its key
    note = f"retried by {operation.by}"[:300]
    rows.update(state=State.PENDING, due_at=clock.now(using=rows.db), note=note)


def discard_locked(rows: QuerySet[Delivery], *, by: str, reason: str) -> None:
    """Settle deliveries that the caller has locked, and release the next ones of their keys."""
    note = f"{reason or 'no reason given'} ({by})"[:300]
    keys = {key for key in rows.values_list("order_key", flat=True) if key is not None}
    settled = {"settled_at": clock.now(using=rows.db), "order_key": None}  # leaves its key's queue
    rows.update(state=State.DISCARDED, note=note, **settled)
    expecting.withdraw(rows)
    ordering.recheck_soon(keys, using=rows.db)


def _discard(rows: QuerySet[Delivery], operation: Operation) -> None:
    discard_locked(rows, by=operation.by, reason=operation.reason)


def _replay(rows: QuerySet[Delivery], operation: Operation) -> None:
    replays.replay(rows, by=operation.by, reason=operation.reason)


_CHANGES: Mapping[str, Callable[[QuerySet[Delivery], Operation], None]] = {
    Action.RETRY: _retry,
    Action.DISCARD: _discard,
    Action.REPLAY: _replay,
}
_DONE = {Action.RETRY: "retried", Action.DISCARD: "discarded", Action.REPLAY: "replayed"}


def _log(pks: Sequence[int], operation: Operation) -> None:
    shown = ", ".join(map(str, pks[:_SHOWN])) + (", ..." if len(pks) > _SHOWN else "")
    done, reason = (
        _DONE[Action(operation.action)],
        f": {operation.reason}" if operation.reason else "",
    )
    logger.info("%s %s deliveries (%d): %s%s", operation.by, done, len(pks), shown, reason)


def _before(busy: int, pks: Sequence[int]) -> list[int]:
    return [pk for pk in pks if pk < busy]


def _of(rows: QuerySet[Delivery] | None, *, using: str) -> QuerySet[Delivery]:
    return Delivery.objects.using(using) if rows is None else rows


def _pks(rows: QuerySet[Delivery] | QuerySet[Subscription]) -> list[int]:
    return list(rows.values_list("pk", flat=True))
