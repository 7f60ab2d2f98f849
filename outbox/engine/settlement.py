"""What becomes of a delivery that was not done: tried again, handed back, parked, dead, discarded.

`decisions` decides; here it is read and written.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import F

from outbox import clock
from outbox.conf import conf
from outbox.counting import counters
from outbox.models import Attempt, Delivery, Subscription
from outbox.policy import Dead, Discard, Pause, Retry, action_for, wait_of
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler

from . import breaker, decisions, ordering
from .attempts import remember, summary
from .decisions import Next, Retries, Verdict
from .lease import by_token
from .retry import drop_broken_connection, is_transient

logger = logging.getLogger("outbox.settlement")

_HAND_BACK_SECONDS = 5

State = Delivery.State
Outcome = Attempt.Outcome

_SETTLED = ["state", "due_at", "note", "attempts", "settled_at", "order_key"]

#: Of the system, so that the children of a fork do not draw the same waits.
_rng = random.SystemRandom()


def fail(delivery: Delivery, error: BaseException, *, handler: Handler, using: str) -> str:
    """Record that a handler raised; return the delivery's state afterwards.

    What is the database's fault is handed back and is no attempt. A run that lost its lease only
    leaves a record, and is counted: the delivery is in other hands.
    """
    drop_broken_connection(using=using)
    with transaction.atomic(using=using):
        row = _held(delivery, using=using)
        if row is None or isinstance(error, LeaseLost):
            return _note_lost_lease(delivery, error, using=using)
        row.event = delivery.event
        if is_transient(error):
            return _hand_back_started(row, error, using=using)
        return _judge(row, error, handler=handler, using=using)


def record_death(row: Delivery, *, using: str) -> None:
    """Record that the worker died in this delivery's handler: started, and the lease passed.

    The caller holds the row's lock.
    """
    remember(row, Outcome.DIED, None, using=using)
    counters.count("attempts", row.subscription.handler, Outcome.DIED.value)
    deaths = _deaths(row, using=using)
    verdict = decisions.after_death(
        attempts=row.attempts,
        deaths=deaths,
        most_deaths=conf().DEATHS,
        retries=_retries(row.subscription),
        now=clock.now(using=using),
        rng=_rng,
    )
    times = "once" if deaths == 1 else f"{deaths} times"
    note = f"the worker died {times} in this handler, no exception was recorded"
    _settle(row, verdict, note=note, using=using)


def _deaths(row: Delivery, *, using: str) -> int:
    """Count the deaths since a person last retried it: attempts count from one again since then.

    A number may come twice, for a failure that used up no attempt; a lost lease died before.
    """
    attempts = Attempt.objects.using(using).filter(delivery=row).exclude(outcome=Outcome.LEASE_LOST)
    deaths, latest = 0, row.attempts
    for number, outcome in attempts.order_by("-id").values_list("number", "outcome"):
        if number > latest:
            break
        latest, deaths = number, deaths + (outcome == Outcome.DIED)
    return deaths


def hand_back(
    pairs: Sequence[tuple[int, int]], *, note: str, subscription: int | None = None, using: str
) -> None:
    """Return deliveries that were not started, each under its token; they cost no attempt.

    With a subscription, only its own: after a crash a number may be another delivery's.
    """
    whose = {} if subscription is None else {"subscription_id": subscription}
    due_at = clock.now(using=using) + timedelta(seconds=_HAND_BACK_SECONDS)
    for token, ids in by_token(pairs).items():
        Delivery.objects.using(using).filter(
            id__in=ids, token=token, started_token__lt=token, state=State.SENT, **whose
        ).update(state=State.PENDING, due_at=due_at, note=note[:300])


def hand_back_started(row: Delivery, *, note: str, using: str) -> None:
    """Return a delivery that has started, but did nothing; that costs no attempt."""
    due_at = clock.now(using=using) + timedelta(seconds=_HAND_BACK_SECONDS)
    mine = Delivery.objects.using(using).filter(pk=row.pk, token=row.token, state=State.SENT)
    mine.update(state=State.PENDING, attempts=F("attempts") - 1, due_at=due_at, note=note[:300])


def hold_back(pks: Sequence[int], *, using: str) -> None:
    """Return deliveries that must not start while a breaker is open. The caller holds the locks."""
    rows = Delivery.objects.using(using).filter(pk__in=pks)
    rows.update(
        state=State.PENDING, due_at=clock.now(using=using), note="its handler's breaker is open"
    )


def park(rows: Iterable[Delivery], *, using: str) -> None:
    """Take deliveries of a held handler out of what is due. The caller holds their locks."""
    for row in rows:
        note = parking_note(row.subscription)
        Delivery.objects.using(using).filter(pk=row.pk).update(state=State.PARKED, note=note)


def parking_note(subscription: Subscription) -> str:
    """Say why a handler's deliveries are parked."""
    if subscription.paused_at:
        return f"its handler is paused by {subscription.paused_by or 'someone'}"
    return "its handler is unknown to the code that was last migrated"


def _held(delivery: Delivery, *, using: str) -> Delivery | None:
    return (
        Delivery.objects.using(using)
        .select_for_update(of=("self",))
        .select_related("subscription")
        .filter(pk=delivery.pk, token=delivery.token, state=State.SENT)
        .first()
    )


def _note_lost_lease(delivery: Delivery, error: BaseException, *, using: str) -> str:
    remember(delivery, Outcome.LEASE_LOST, error, using=using)
    mine = Subscription.objects.using(using).filter(pk=delivery.subscription_id)
    mine.update(leases_lost=F("leases_lost") + 1)
    return Delivery.objects.using(using).get(pk=delivery.pk).state


def _judge(row: Delivery, error: BaseException, *, handler: Handler, using: str) -> str:
    action, now, note = (
        action_for(error, handler.rules),
        clock.now(using=using),
        summary(error, row),
    )
    is_final = isinstance(action, Dead | Discard)
    remember(row, Outcome.REFUSED if is_final else Outcome.FAILED, error, using=using)
    held_until = None
    if handler.breaker is not None and isinstance(error, handler.breaker.on):
        held_until = breaker.note_failure(row, handler.breaker, reason=note, now=now, using=using)
    elif row.subscription.breaker_probe == row.pk:
        breaker.note_answer(row, using=using)  # whatever it is, the other side is not down
    verdict = decisions.after_failure(
        action,
        attempts=row.attempts,
        retries=_retries(row.subscription),
        now=now,
        rng=_rng,
        wait=wait_of(error, action) if isinstance(action, Retry) else None,
        held_until=held_until,
    )
    if isinstance(action, Pause):
        _pause(row.subscription, action, error, note=note, using=using)
    if isinstance(action, Discard | Pause):
        note = f"{action.reason} ({note})"
    return _settle(row, verdict, note=note, using=using)


def _pause(
    row: Subscription, action: Pause, error: BaseException, *, note: str, using: str
) -> None:
    running = Subscription.objects.using(using).filter(handler=row.handler, paused_at=None)
    by, reason = f"rule:{type(error).__name__}"[:150], f"{action.reason} ({note})"
    if running.update(paused_at=clock.now(using=using), paused_by=by, pause_reason=reason):
        logger.warning("%s is paused by its own rule: %s", row.handler, reason)


def _settle(row: Delivery, verdict: Verdict, *, note: str, using: str) -> str:
    row.state, row.due_at, row.note = verdict.state.value, verdict.due_at, note[:300]
    row.attempts -= 0 if verdict.counts else 1
    if verdict.state is Next.DISCARDED:
        row.settled_at = clock.now(using=using)
    line = _line_left(row)
    row.order_key = None if line else row.order_key
    row.save(using=using, update_fields=_SETTLED)
    if line:
        ordering.release(line, using=using)
    return row.state


def _line_left(row: Delivery) -> ordering.Line | None:
    """Return the line that a delivery of an ordered handler leaves; None: it stays, or has none."""
    passes = row.subscription.on_dead == Subscription.OnDead.PASS
    leaves = row.state == State.DISCARDED or (row.state == State.DEAD and passes)
    return (row.subscription.handler, row.order_key) if leaves and row.order_key else None


def _retries(row: Subscription) -> Retries:
    return Retries(attempts=row.attempts, base=row.backoff_base, cap=row.backoff_cap)


def _hand_back_started(row: Delivery, error: BaseException, *, using: str) -> str:
    Delivery.objects.using(using).filter(pk=row.pk).update(
        state=State.PENDING,
        attempts=F("attempts") - 1,
        due_at=clock.now(using=using) + timedelta(seconds=1),
        note=f"the database was to blame: {summary(error, row)}"[:300],
    )
    return State.PENDING
