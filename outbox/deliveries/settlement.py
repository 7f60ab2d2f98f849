"""Record deliveries that were not done: retried, handed back, parked, dead or discarded.

`decisions` decides; this module reads and writes the rows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from django.db import transaction
from django.db.models import F, QuerySet

from outbox import clock
from outbox.conf import conf
from outbox.counting import counters
from outbox.models import Attempt, Delivery, Subscription
from outbox.policy import Dead, Discard, NotCalled, Pause, Retry, action_for, wait_of
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler

from . import breaker, decisions, ordering, receipts
from .attempts import NOTE_LENGTH, Failure, count_since_retry, describe, remember
from .decisions import Next, Retries, Verdict
from .hosts import with_host
from .lease import by_token
from .pauses import pausable, pause_values
from .transient_errors import drop_broken_connection
from .withdrawal import excuse_of, is_excused, withdraw

logger = logging.getLogger("outbox.settlement")

#: Seconds after which a delivery that was handed back is due again.
HAND_BACK_SECONDS = 5
#: End of the note of a delivery that a worker hands back, since only a later release can run it.
OLDER_RELEASE = "is its release older?"
#: Start of the note of one whose event was removed from the list of its handler.
REMOVED = "its handler no longer subscribes to "

State = Delivery.State
Outcome = Attempt.Outcome

_SETTLED = ["state", "due_at", "attempts", "settled_at", "note", "order_key"]

#: System randomness, so that forked processes do not draw the same waits.
_rng = random.SystemRandom()


def fail(
    delivery: Delivery,
    error: BaseException,
    *,
    handler: Handler,
    using: str,
    is_outage: bool = False,
    has_hung: bool = False,
    for_breaker: bool = True,
) -> tuple[str, Failure]:
    """Record a failed run.

    The first `_MAX_DATABASE_ERRORS` errors of the outbox's database use up no attempt. Later ones
    are ordinary failures, so an event that kills its connection each time ends as dead. An outage
    never uses up an attempt. A run that lost its lease is only recorded. If that was the
    database's fault, the death that a relay has recorded for the run is withdrawn.

    Args:
        delivery: the delivery as it was started.
        error: the exception that the run raised.
        handler: the delivery's handler.
        using: the outbox's database alias.
        is_outage: the database was unreachable when the run failed.
        has_hung: a statement took so long that the lease may have expired meanwhile.
        for_breaker: the handler's breaker counts the failure. False: the call is counted already.

    Returns:
        The delivery's state afterwards, and the exception's description. The state is "done" if
        the run's receipt is stored: its COMMIT succeeded, but the confirmation was lost.
    """
    drop_broken_connection(using=using)
    failure = describe(error, delivery.event, using=using)
    excuse = excuse_of(error, is_outage=is_outage, has_hung=has_hung, using=using)
    state = _fail(
        delivery,
        error,
        failure,
        handler=handler,
        excuse=excuse,
        for_breaker=for_breaker,
        using=using,
    )
    return state, failure


def _fail(
    delivery: Delivery,
    error: BaseException,
    failure: Failure,
    *,
    handler: Handler,
    excuse: Outcome | None,
    for_breaker: bool,
    using: str,
) -> str:
    with transaction.atomic(using=using):
        row = _held(delivery, using=using)
        if row is None or isinstance(error, LeaseLost):
            return _record_unheld(delivery, failure, excuse=excuse, using=using)
        row.event = delivery.event
        if excuse and is_excused(excuse, row, using=using):
            return _hand_back_excused(row, failure, outcome=excuse, using=using)
        return _judge(row, error, failure, handler=handler, for_breaker=for_breaker, using=using)


def record_death(row: Delivery, *, using: str) -> None:
    """Record that the worker died in the handler: it has started, and the lease has expired.

    The caller holds the row's lock.
    """
    remember(row, Outcome.DIED, None, using=using)
    counters.count("attempts", row.subscription.handler, Outcome.DIED.value)
    deaths = count_since_retry(row, Outcome.DIED, using=using)
    verdict = decisions.after_death(
        attempts=row.attempts,
        deaths=deaths,
        most_deaths=conf().MAX_WORKER_CRASHES,
        retries=_retries(row.subscription),
        now=clock.now(using=using),
        rng=_rng,
    )
    times = "once" if deaths == 1 else f"{deaths} times"
    note = (
        f"the worker died {times} in this handler, or could not store its result; "
        "no exception was recorded"
    )
    _settle(row, verdict, note=note, using=using)


def _attempts_of_start(delivery: Delivery, *, using: str) -> QuerySet[Attempt]:
    """Return the recorded attempts of this start."""
    start = {"worker": delivery.worker, "started_at": delivery.started_at}
    return Attempt.objects.using(using).filter(delivery_id=delivery.pk, **start)


def hand_back(
    pairs: Sequence[tuple[int, int]],
    *,
    note: str,
    subscription: int | None = None,
    wait: float = HAND_BACK_SECONDS,
    using: str,
) -> None:
    """Hand back deliveries that were not started, each under its token; this uses up no attempt.

    With a subscription, only its deliveries: after a crash, an id may be another delivery's. They
    are due again after `wait` seconds. If one of them is the probe of a breaker, the next probe is
    due then.
    """
    mine = {} if subscription is None else {"subscription_id": subscription}
    due_at = clock.now(using=using) + timedelta(seconds=wait)
    for token, ids in by_token(pairs).items():
        rows = Delivery.objects.using(using).filter(
            id__in=ids, token=token, started_token__lt=token, state=State.SENT, **mine
        )
        with transaction.atomic(using=using):  # repeated as a whole after a transient error
            number = rows.update(state=State.PENDING, due_at=due_at, note=note[:NOTE_LENGTH])
            if number:
                back = Delivery.objects.using(using).filter(
                    id__in=ids, token=token, started_token__lt=token, state=State.PENDING, **mine
                )
                breaker.probe_at(back.values_list("pk", flat=True), due_at, using=using)


def hand_back_started(row: Delivery, *, note: str, using: str) -> None:
    """Hand back a delivery that has started but done nothing; this uses up no attempt."""
    due_at = clock.now(using=using) + timedelta(seconds=HAND_BACK_SECONDS)
    with transaction.atomic(using=using):  # the caller repeats all of it after a transient error
        mine = _same_start(row, using=using)
        number = mine.update(
            state=State.PENDING, attempts=F("attempts") - 1, due_at=due_at, note=note[:NOTE_LENGTH]
        )
        if number and row.subscription.breaker_probe == row.pk:
            breaker.probe_at([row.pk], due_at, using=using)
        if number and row.order_key is not None:  # an earlier one may have waited for its end
            ordering.release((row.subscription.handler, row.order_key), using=using)


def hold_back(rows: Sequence[Delivery], *, using: str) -> None:
    """Make deliveries pending again while a breaker is open. The caller holds their locks."""
    pks = [row.pk for row in rows]
    held = Delivery.objects.using(using).filter(pk__in=pks)
    held.update(
        state=State.PENDING, due_at=clock.now(using=using), note="its handler's breaker is open"
    )


def park(rows: Iterable[Delivery], *, using: str) -> None:
    """Park deliveries of a held handler. The caller holds their locks."""
    for row in rows:
        note = parking_note(row.subscription)
        mine = Delivery.objects.using(using).filter(pk=row.pk)
        mine.update(state=State.PARKED, note=note)


def parking_note(subscription: Subscription) -> str:
    """Return the reason why a handler's deliveries are parked."""
    if subscription.paused_at:
        by, prefix = subscription.paused_by, Subscription.PAUSED_BY_BACKFILL
        if by.startswith(prefix):
            return f"its handler is held by its backfill, operation {by.removeprefix(prefix)}"
        return f"its handler is paused by {by or 'someone'}"
    return "its handler is unknown to the code that was last migrated"


def _same(delivery: Delivery, *, using: str) -> QuerySet[Delivery]:
    """Return this delivery's row, but not another delivery that got its id after a failover."""
    rows = Delivery.objects.using(using).select_related("subscription")
    return rows.filter(pk=delivery.pk, event__id=delivery.event.id)


def _same_start(delivery: Delivery, *, using: str) -> QuerySet[Delivery]:
    """Return the row of this delivery while it still belongs to this start."""
    return Delivery.objects.using(using).filter(
        pk=delivery.pk,
        state=State.SENT,
        token=delivery.token,
        started_token=delivery.token,
        started_at=delivery.started_at,
        worker=delivery.worker,
    )


def _held(delivery: Delivery, *, using: str) -> Delivery | None:
    rows = _same_start(delivery, using=using).select_related("subscription")
    return rows.select_for_update(of=("self",)).first()


def _record_unheld(
    delivery: Delivery, failure: Failure, *, excuse: Outcome | None, using: str
) -> str:
    """Record a failure of a run that has lost its delivery; return the delivery's state."""
    # The lock prevents pruning before the attempt is stored.
    row = _same(delivery, using=using).select_for_update(of=("self",)).first()
    if row is None:
        logger.error("Delivery %s no longer exists. Its failure is not recorded.", delivery.pk)
        return State.DISCARDED
    if receipts.given_to([delivery], using=using):
        name = delivery.subscription.handler
        text = "%s raised after its receipt; the delivery is done: %s"
        logger.error(text, name, failure.summary)
        return State.DONE
    mine = _attempts_of_start(delivery, using=using)
    death = mine.filter(outcome=Outcome.DIED).first()
    if excuse and death:
        withdraw(death, excuse, using=using)
        row.refresh_from_db(fields=["state"], using=using)
    # Recorded already: its death is withdrawn, or the COMMIT of its failure was not answered.
    if not mine.exclude(outcome=Outcome.DIED).exists():
        remember(delivery, Outcome.LEASE_LOST, failure, using=using)
        its = Subscription.objects.using(using).filter(pk=delivery.subscription_id)
        its.update(leases_lost=F("leases_lost") + 1)
    return row.state


def _judge(
    row: Delivery,
    error: BaseException,
    failure: Failure,
    *,
    handler: Handler,
    for_breaker: bool,
    using: str,
) -> str:
    action, now, note = action_for(error, handler.rules), clock.now(using=using), failure.summary
    is_final = isinstance(action, Dead | Discard)
    remember(row, Outcome.REFUSED if is_final else Outcome.FAILED, failure, using=using)
    held_until = None
    wait = wait_of(error, action) if isinstance(action, Retry) else None
    if isinstance(error, NotCalled):  # as a probe, it closes no breaker
        held_until = now + (_backoff(row, Outcome.FAILED, using=using) if wait is None else wait)
        breaker.probe_again(row, using=using)
    elif handler.breaker is not None and isinstance(error, handler.breaker.on):
        held_until = row.subscription.breaker_probe_at
        if for_breaker:
            on = handler.breaker
            reason = with_host(note, error)
            held_until = breaker.note_failure(row, on, reason=reason, now=now, using=using)
    elif handler.breaker is not None and row.subscription.breaker_probe == row.pk:
        breaker.note_answer(row, using=using)  # any other exception: the external system is up
    verdict = decisions.after_failure(
        action,
        attempts=row.attempts,
        retries=_retries(row.subscription),
        now=now,
        rng=_rng,
        wait=wait,
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
    running = pausable(Subscription.objects.using(using).filter(handler=row.handler))
    by = f"{Subscription.PAUSED_BY_RULE}{type(error).__name__}"
    reason = f"{action.reason} ({note})"
    if running.update(**pause_values(by=by, reason=reason, using=using)):
        text = "%s is paused by its own rule: %s"
        transaction.on_commit(partial(logger.warning, text, row.handler, reason), using=using)


def _settle(row: Delivery, verdict: Verdict, *, note: str, using: str) -> str:
    row.state, row.due_at, row.note = verdict.state.value, verdict.due_at, note[:NOTE_LENGTH]
    row.attempts -= 0 if verdict.counts else 1
    if verdict.state is Next.DISCARDED:
        row.settled_at = clock.now(using=using)
    _save_and_release(row, using=using)
    return row.state


def _save_and_release(row: Delivery, *, using: str) -> None:
    """Save a delivery that no longer runs, and release the next one of its ordered key.

    A delivery that keeps its order key may be of a later event than a blocked one: a replay is.
    """
    ordered_key = (row.subscription.handler, row.order_key) if row.order_key is not None else None
    if ordered_key and (row.state == State.DISCARDED or _is_passed(row, using=using)):
        row.order_key = None
    row.save(using=using, update_fields=_SETTLED)
    if ordered_key:
        ordering.release(ordered_key, using=using)


def _is_passed(row: Delivery, *, using: str) -> bool:
    """Return whether a delivery is dead and later ones of its key pass it."""
    if row.state != State.DEAD:
        return False
    # Read again: `row.subscription` may be from before a wait for the delivery's lock, during which
    # `migrate` has changed it.
    mine = Subscription.objects.using(using).filter(pk=row.subscription_id)
    return mine.filter(on_dead=Subscription.OnDead.PASS).exists()


def _retries(row: Subscription) -> Retries:
    return Retries(attempts=row.attempts, base=row.backoff_base, cap=row.backoff_cap)


def _backoff(row: Delivery, outcome: Outcome, *, using: str) -> timedelta:
    """Return the wait after failures that use up no attempt, by their number."""
    return decisions.backoff(
        attempt=count_since_retry(row, outcome, using=using),
        base=row.subscription.backoff_base,
        cap=row.subscription.backoff_cap,
        rng=_rng,
    )


def _hand_back_excused(row: Delivery, failure: Failure, *, outcome: Outcome, using: str) -> str:
    """Schedule a retry that uses up no attempt: the database failed."""
    remember(row, outcome, failure, using=using)
    row.state = State.PENDING
    row.due_at = clock.now(using=using) + _backoff(row, outcome, using=using)
    row.attempts -= 1
    row.note = f"{outcome.label}: {failure.summary}"[:NOTE_LENGTH]
    if row.subscription.breaker_probe == row.pk:
        breaker.probe_at([row.pk], row.due_at, using=using)
    _save_and_release(row, using=using)
    return State.PENDING
