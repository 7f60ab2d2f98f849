"""The circuit breaker of a handler with external calls, stored in the subscription's row.

`decisions.Circuit` decides. This module reads and writes the row. Workers use it when calls fail or
succeed, and the relay when it sends a probe.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from functools import partial

from django.db import transaction

from outbox import clock
from outbox.models import Delivery, Subscription
from outbox.policy import Breaker
from outbox.transports.nudge import nudge_of

from .decisions import FIRST_BATCH, Circuit, after_call_failed
from .transient_errors import DatabaseAccess

logger = logging.getLogger("outbox.breaker")

CLOSED = {
    "breaker_failures": 0,
    "breaker_opened_at": None,
    "breaker_probe_at": None,
    "breaker_probe": None,
    "breaker_wait": 0,
    "breaker_reason": "",
}


def circuit_of(row: Subscription) -> Circuit:
    """Return the breaker's state from the row."""
    return Circuit(
        failures=row.breaker_failures,
        opened_at=row.breaker_opened_at,
        probe_at=row.breaker_probe_at,
        wait=row.breaker_wait,
    )


def holds(delivery: Delivery) -> bool:
    """Return whether the breaker is open and the delivery is not its probe, so must not start."""
    row = delivery.subscription
    return row.breaker_opened_at is not None and row.breaker_probe != delivery.pk


def note_failure(
    delivery: Delivery, breaker: Breaker, *, reason: str, now: datetime, using: str
) -> datetime | None:
    """Count a failure; if the breaker was open before, return the time of the next probe.

    The caller's transaction holds the delivery's lock, for which no relay waits.
    """
    rows = Subscription.objects.using(using).select_for_update(no_key=True)
    row = rows.get(pk=delivery.subscription_id)
    before = circuit_of(row)
    after = after_call_failed(before, breaker, now=now, is_probe=row.breaker_probe == delivery.pk)
    row.breaker_failures, row.breaker_wait = after.failures, after.wait
    row.breaker_opened_at, row.breaker_probe_at = after.opened_at, after.probe_at
    row.breaker_reason = reason[:300]
    if after.is_open and not before.is_open:
        row.window_now = min(row.window, row.batch, FIRST_BATCH)  # start small when it closes
        text = "The breaker of %s is open. Its deliveries wait: %s"
        transaction.on_commit(partial(logger.warning, text, row.handler, reason), using=using)
    row.save(using=using, update_fields=[*CLOSED, "window_now"])
    return after.probe_at if before.is_open else None


def note_answer(delivery: Delivery, *, using: str) -> None:
    """Close the breaker, or reset its failure count: the external system has answered.

    Write nothing if the breaker had counted no failure at the delivery's start: the usual case.
    """
    row = delivery.subscription
    if not row.breaker_failures and row.breaker_opened_at is None:
        return
    mine = Subscription.objects.using(using).filter(pk=row.pk)
    # Only the state that this run started with; failures since then still count.
    closed = mine.filter(breaker_opened_at=row.breaker_opened_at).update(**CLOSED)
    if closed and row.breaker_opened_at is not None:
        text = "The breaker of %s is closed. Its deliveries continue."
        transaction.on_commit(partial(logger.info, text, row.handler), using=using)
        transaction.on_commit(nudge_of(using), using=using, robust=True)


def probe_again(delivery: Delivery, *, using: str) -> None:
    """Make the next probe due: this one was done without a call of the external system."""
    mine = Subscription.objects.using(using).filter(breaker_probe=delivery.pk)
    mine.update(breaker_probe_at=clock.now(using=using))


def replace_probe(blocked: Iterable[Delivery], *, using: str) -> None:
    """Let another delivery be the probe now, if the current one was blocked before its start.

    The relay is nudged: many deliveries of one key may be due before the one that may run.

    Args:
        blocked: deliveries of an ordered handler. The caller's transaction holds their locks.
        using: the outbox's database alias.
    """
    for delivery in blocked:
        if delivery.subscription.breaker_probe == delivery.pk:
            probe_again(delivery, using=using)
            transaction.on_commit(nudge_of(using), using=using, robust=True)


def probe_at(ids: Iterable[int], at: datetime, *, using: str) -> None:
    """Let the next probe be due at a time, if the current one was handed back, and not later.

    Args:
        ids: deliveries that were handed back without a call of the external system.
        at: the time when they are due again.
        using: the outbox's database alias.
    """
    mine = Subscription.objects.using(using).filter(breaker_probe__in=ids, breaker_probe_at__gt=at)
    mine.update(breaker_probe_at=at)


def record_answer(delivery: Delivery, *, access: DatabaseAccess) -> None:
    """As `note_answer`, for a delivery that is done: it never raises."""
    try:
        access.run(lambda: note_answer(delivery, using=access.using))
    except Exception:
        logger.exception(
            "Delivery %s is done, but storing its success in the breaker of %s failed. The next "
            "success is stored.",
            delivery.pk,
            delivery.subscription.handler,
        )
