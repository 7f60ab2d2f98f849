"""A bulk call: one call of the handler for all deliveries of a message, each settled by itself.

The handler calls an external system, so no transaction is open during the call. Afterwards one
transaction stores the receipts of all acknowledged deliveries. If that fails (a delivery was given
to another worker meanwhile), each receipt has its own transaction. Every other delivery has failed
with its own error, as after a call of its own.

The handler's breaker counts calls, not deliveries. A call with an acknowledged delivery is an
answer of the external system. Any other call is at most one failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Protocol

from django.db import Error, transaction
from django.db.models import Count

from outbox import clock, tenants, tracing
from outbox.context import Cause, caused_by
from outbox.contracts import upcasting
from outbox.deliveries import breaker, failpoints, receipts
from outbox.deliveries.connections import drop_interrupted, unchanged_connections
from outbox.deliveries.lease import Lease
from outbox.deliveries.statements import bound_transaction
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Attempt, Delivery
from outbox.receipt import BulkDelivery, LeaseLost, NotSettled
from outbox.settlements import expecting
from outbox.subscriptions import Handler

from . import calls, outcome
from .calls import SessionWatch
from .outcome import Result


class Fail(Protocol):
    """Stores the failure of a delivery. It never raises."""

    def __call__(self, row: Delivery, error: Exception, *, for_breaker: bool) -> Result:
        """Store it; `for_breaker`: the handler's breaker counts it."""


def apart(handler: Handler, deliveries: Sequence[Delivery]) -> Sequence[Sequence[Delivery]]:
    """Return the deliveries of each call: a call has one tenant, unless the handler is of all."""
    if not tenants.is_on() or tenants.is_of_all(handler.function):
        return [deliveries]
    found: dict[str | None, list[Delivery]] = {}
    for row in deliveries:
        found.setdefault(row.event.tenant, []).append(row)
    return [*found.values()]


def run(
    handler: Handler,
    deliveries: Sequence[Delivery],
    *,
    lease: Lease,
    fail: Fail,
    access: DatabaseAccess,
) -> list[Result]:
    """Call a bulk handler once, then store the result of each delivery.

    Args:
        handler: the handler.
        deliveries: the started deliveries of a message.
        lease: the lease of the message.
        fail: stores a failure.
        access: the outbox's database.
    """
    began = time.monotonic()
    errors: dict[int, Exception] = {}
    with ExitStack() as stack:
        spans = _spans(handler, deliveries, stack, using=access.using)
        try:
            errors = _call(handler, deliveries, lease=lease, access=access)
        except Exception as error:  # before the call
            errors = {row.pk: error for row in deliveries}
    acknowledged = [row for row in deliveries if row.pk not in errors]
    errors |= _give(handler, acknowledged, lease=lease, access=access)
    done = [row for row in acknowledged if row.pk not in errors]
    for row in done:
        lease.end(row)
    if acknowledged:  # before the failures, so that a breaker that is open does not hold them
        breaker.record_answer(acknowledged[0], access=access)  # one counts for all
    seconds = (time.monotonic() - began) / len(deliveries)
    now = access.run(lambda: clock.now(using=access.using))
    results = [_done(row, seconds=seconds, now=now) for row in done]
    outcome.log_done(handler, done, results)
    for_breaker = not acknowledged
    for row in deliveries:
        if failure := errors.get(row.pk):
            with suppress(Error):  # the others of the message must run
                access.run(lease.keep)  # of those that follow
            lease.end(row)
            made = fail(row, failure, for_breaker=for_breaker)
            if _is_watched(failure, handler) and _was_held(made):
                for_breaker = False
            made = replace(made, seconds=seconds, lag=_lag(row, now))
            outcome.log(handler, row, made)
            results.append(made)
    _end(spans, results)
    return sorted(results, key=attrgetter("delivery_id"))


def _done(row: Delivery, *, seconds: float, now: datetime) -> Result:
    return Result(row.pk, Delivery.State.DONE, seconds=seconds, lag=_lag(row, now))


def _lag(row: Delivery, now: datetime) -> float:
    return (now - row.event.emitted_at).total_seconds()


def _spans(
    handler: Handler, deliveries: Sequence[Delivery], stack: ExitStack, *, using: str
) -> dict[int, tracing.Traced]:
    """Begin the span of each delivery until the stack ends; none if tracing is off."""
    if not tracing.is_on():
        return {}
    return {
        row.pk: stack.enter_context(
            tracing.handling(row, handler=handler.name, using=using, ends=False)
        )
        for row in deliveries
    }


def _end(spans: Mapping[int, tracing.Traced], results: Sequence[Result]) -> None:
    for result in results if spans else ():
        span = spans[result.delivery_id]
        span.ended(result.outcome)
        if result.failure is not None:
            span.failed(result.failure.exception, text=result.failure.message)


def _is_watched(error: Exception, handler: Handler) -> bool:
    return handler.breaker is not None and isinstance(error, handler.breaker.on)


def _was_held(made: Result) -> bool:
    """Return whether the failure was stored. False if another worker has the delivery."""
    return made.outcome not in ("lease_lost", "not_stored", Delivery.State.SENT)


def _call(
    handler: Handler, deliveries: Sequence[Delivery], *, lease: Lease, access: DatabaseAccess
) -> dict[int, Exception]:
    """Call the handler; return the errors of deliveries without acknowledgement, by id."""
    access.run(lease.keep)
    replays = access.run(partial(_replays, deliveries, using=access.using))
    errors: dict[int, Exception] = {}
    given: dict[int, BulkDelivery] = {}
    for row in deliveries:
        try:
            given[row.pk] = _given(row, lease, replays=replays.get(row.pk, 0))
        except Exception as error:  # the event does not fit, or the lease is lost
            errors[row.pk] = error
    if given:
        failpoints.reach(failpoints.BEFORE_EFFECTS)
        reason = _raised_by(handler, list(given.values()))
        for pk, one in given.items():
            if not one.is_done:
                errors[pk] = one.error or reason or NotSettled(NotSettled.__doc__)
    return errors


def _given(row: Delivery, lease: Lease, *, replays: int) -> BulkDelivery:
    if lease.is_lost(row):
        raise LeaseLost(LeaseLost.__doc__)
    record = calls.record_of(row.event, upcasting.current_payload(row.event))
    return BulkDelivery(record, target=row.target, attempt=row.attempts, replays=replays)


def _replays(deliveries: Sequence[Delivery], *, using: str) -> dict[int, int]:
    """Return the number of earlier publications of each delivery that was replayed."""
    again = [row.pk for row in deliveries if row.token > 1]
    if not again:
        return {}
    replayed = Attempt.objects.using(using).filter(outcome__in=Attempt.PUBLISHED_BEFORE)
    rows = replayed.filter(delivery__in=again).order_by().values_list("delivery")
    return dict(rows.annotate(number=Count("pk")))


def _raised_by(handler: Handler, given: Sequence[BulkDelivery]) -> Exception | None:
    """Call the handler; return the exception that it raised, or None."""
    watch, is_of_all = SessionWatch(), tenants.is_of_all(handler.function)
    tenant = None if is_of_all else given[0].event.tenant
    try:
        with (
            caused_by(Cause(emitted_by=handler.name, tenant=tenant or "")),
            watch,
            unchanged_connections(),
            time_limit(handler.time_limit) as limit,
            nullcontext() if is_of_all else tenants.restored(tenant),
        ):
            calls.call(handler, {"deliveries": given}, limit)
    except Exception as error:
        if isinstance(error, TimeLimitExceeded):
            drop_interrupted()
        return error
    finally:
        watch.drop_changed()
    return None


def _give(
    handler: Handler, deliveries: Sequence[Delivery], *, lease: Lease, access: DatabaseAccess
) -> dict[int, Exception]:
    """Store receipts; return the errors of those that could not be stored, by delivery id."""
    if not deliveries:
        return {}
    failpoints.reach(failpoints.BEFORE_RECEIPT)
    try:
        access.run(partial(_store, handler, deliveries, using=access.using))
    except Exception as error:
        done = access.run(partial(receipts.given_to, deliveries, using=access.using))
        left = [row for row in deliveries if row.pk not in done]  # COMMIT may have succeeded
        if len(deliveries) == 1:
            return {row.pk: error for row in left}
        alone = []
        for row in left:
            access.run(lease.keep)
            alone.append(_give(handler, [row], lease=lease, access=access))
        return {pk: one for errors in alone for pk, one in errors.items()}
    failpoints.reach(failpoints.AFTER_RECEIPT)
    return {}


def _store(handler: Handler, deliveries: Sequence[Delivery], *, using: str) -> None:
    with transaction.atomic(using=using):
        bound_transaction(handler.lease, using=using)
        receipts.give(deliveries, using=using)
        if handler.settled_by:
            expecting.expect(deliveries, handler.settled_by, using=using)
        failpoints.reach(failpoints.BEFORE_COMMIT)
