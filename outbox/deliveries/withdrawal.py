"""Failures that are the database's fault, and the deaths that are withdrawn for that reason.

An outage never uses up an attempt. Other errors of the database use one up after a delivery has had
a few of them. So an event that causes them each time ends as dead.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial

from django.db import connections, transaction
from django.db.models import F, Q, QuerySet

from outbox import clock
from outbox.models import Attempt, Delivery
from outbox.receipt import LeaseLost

from .attempts import count_since_retry
from .key_locks import lock_ordered_keys
from .transient_errors import DatabaseAccess, is_interrupted_statement, is_transient

logger = logging.getLogger("outbox.settlement")

#: Number of runs per delivery that may fail with a database error and use up no attempt.
_MAX_DATABASE_ERRORS = 5
_OUT_OF_REACH = "its worker could not reach the database, and is alive"
_PASSED = f"{_OUT_OF_REACH}; a later event of its key was handled meanwhile, so staff must decide"

_REVIVED = ["state", "due_at", "attempts", "note", "order_key"]

State = Delivery.State
Outcome = Attempt.Outcome


def excuse_of(
    error: BaseException, *, is_outage: bool, has_hung: bool, using: str
) -> Outcome | None:
    """Return the outcome of a run that failed through the database's fault; otherwise None."""
    if is_outage:
        return Outcome.OUTAGE
    if isinstance(error, LeaseLost):
        return Outcome.DATABASE if has_hung else None
    if is_transient(error, using=using) or is_interrupted_statement(error, using=using):
        return Outcome.DATABASE
    return None


def is_excused(excuse: Outcome, row: Delivery, *, using: str) -> bool:
    """Return whether the excuse is accepted: always for an outage, a few times for others."""
    if excuse is Outcome.OUTAGE:
        return True
    return count_since_retry(row, excuse, using=using) < _MAX_DATABASE_ERRORS


def withdraw_deaths(
    ids: Collection[int],
    *,
    worker: str,
    started_at: datetime,
    using: str,
    is_outage: bool = True,
) -> int:
    """Withdraw the deaths that were recorded for a start although its worker is alive.

    The worker calls this when it has reconnected to the database. An outage, or a cut between
    worker and database, lasted longer than the lease. Give back the attempt, and make deliveries
    due again that are dead because of it.

    Args:
        ids: ids of the started deliveries.
        worker: name of the worker that started them.
        started_at: time of the start.
        using: the outbox's database alias.
        is_outage: the database was unreachable. If False, the death becomes a database error, of
            which a delivery may have a few.

    Returns:
        The number of withdrawn deaths.
    """
    excuse = Outcome.OUTAGE if is_outage else Outcome.DATABASE
    rows = Delivery.objects.using(using).filter(pk__in=ids).order_by("pk")
    with transaction.atomic(using=using):
        # Lock before reading the deaths, to wait for a relay that is recording one.
        list(rows.select_for_update().values_list("pk", flat=True))
        deaths = Attempt.objects.using(using).filter(
            delivery__in=ids, worker=worker, started_at=started_at, outcome=Outcome.DIED
        )
        return sum(withdraw(death, excuse, using=using) for death in deaths)


def withdraw_deaths_later(
    ids: Sequence[int],
    *,
    worker: str,
    at: datetime,
    access: DatabaseAccess,
) -> None:
    """Withdraw the deaths of a start after each lost connection of its worker."""

    def withdraw_now() -> None:
        withdraw_deaths(
            ids,
            worker=worker,
            started_at=at,
            is_outage=access.outage_seconds > 0,
            using=access.using,
        )

    access.after_reconnect(withdraw_now)


def withdraw(death: Attempt, excuse: Outcome, *, using: str) -> bool:
    """Withdraw a death; return whether it was accepted. The caller holds the delivery's lock."""
    rows = Delivery.objects.using(using).select_related("subscription", "event")
    row = rows.get(pk=death.delivery_id)
    if not is_excused(excuse, row, using=using):
        return False
    newer = _newer_than(death, using=using)
    if not _was_retried_since(death, row, newer):
        row.attempts -= 1
        newer.update(number=F("number") - 1)
    death.outcome, death.message = excuse, _OUT_OF_REACH
    death.save(using=using, update_fields=["outcome", "message"])
    if _is_of(row, death) and row.state in (State.PENDING, State.DEAD):
        _revive(row, using=using)
    row.save(using=using, update_fields=_REVIVED)
    rest = ""
    if row.state == State.DEAD and row.note == _PASSED:
        rest = (
            " A later event of its key ran before it, so it stays dead: `manage.py outbox why "
            f"{row.pk}`."
        )
    text = "Delivery %s: its worker is alive, and no attempt is used up.%s"
    transaction.on_commit(partial(logger.warning, text, row.pk, rest), using=using)
    return True


def _newer_than(death: Attempt, *, using: str) -> QuerySet[Attempt]:
    newer = Attempt.objects.using(using).filter(delivery=death.delivery_id, pk__gt=death.pk)
    return newer.exclude(outcome=Outcome.LEASE_LOST)


def _was_retried_since(death: Attempt, row: Delivery, newer: QuerySet[Attempt]) -> bool:
    """Return whether staff have reset the attempts since this death was recorded.

    Without a reset, each start since then has a higher number.
    """
    for number, outcome in newer.values_list("number", "outcome"):
        if outcome in Attempt.PUBLISHED_BEFORE or number <= death.number:
            return True
    has_later_start = not _is_of(row, death) and (row.state == State.DONE or row.is_started)
    return row.attempts - has_later_start < death.number


def _is_of(row: Delivery, death: Attempt) -> bool:
    """Return whether the delivery's latest start is the one of this death."""
    return (row.worker, row.started_at) == (death.worker, death.started_at)


def _revive(row: Delivery, *, using: str) -> None:
    """Make a delivery due again that is dead or waits for its next attempt."""
    if row.state == State.DEAD and _was_passed(row, using=using):
        row.note = _PASSED
        return
    row.state, row.due_at, row.note = State.PENDING, clock.now(using=using), _OUT_OF_REACH
    row.order_key = row.event.key if row.subscription.ordered else None


def _was_passed(row: Delivery, *, using: str) -> bool:
    """Return whether a later delivery of the key is settled or running (`on_dead="pass"`).

    The ordered key stays locked until the caller's transaction ends, so none starts meanwhile.
    """
    if row.order_key is not None or not row.subscription.ordered:
        return False
    handler, key = row.subscription.handler, row.event.key
    lock_ordered_keys({(handler, key)}, connection=connections[using])
    later = Delivery.objects.using(using).filter(
        subscription__handler=handler, event__key=key, event__gt=row.event_id
    )
    is_settled = Q(state__in=(State.DONE, State.DISCARDED))
    return later.filter(is_settled | Q(state=State.SENT, started_token=F("token"))).exists()
