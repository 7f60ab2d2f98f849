"""Run one handler for its deliveries: store the start, then effects and receipt, or the failure.

The protocol of a message has two steps. One commit stores the start of the whole batch: attempt + 1
for each delivery that has not started since the message was sent (see `start`). Then effects,
emitted events and receipt commit in one transaction, fenced by the token. It holds one delivery, or
many if the handler allows `shared_transaction`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from django.db import Error

from outbox import clock, databases, tenants, tracing
from outbox.context import caused_by
from outbox.deliveries import breaker, failpoints, heartbeat, settlement
from outbox.deliveries.attempts import Failure, describe
from outbox.deliveries.connections import drop_interrupted, unchanged_connections
from outbox.deliveries.lease import MAX_WORKER_NAME, Lease, Pair
from outbox.deliveries.receipts import given_to, receipt_of, transaction_with_receipt
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.deliveries.withdrawal import withdraw_deaths_later
from outbox.models import Delivery
from outbox.subscriptions import Handler, find

from . import batch, bulk, calls, outcome, targets
from .callbacks import Callbacks
from .calls import SessionWatch
from .outcome import Refusal, Result
from .start import hand_back_unfit, start

_NO_HANDLER = "{worker} has no handler {handler}; " + settlement.OLDER_RELEASE


class ReceiptNotGiven(RuntimeError):
    """The handler returned without `with receipt:`: nothing proves that its effects are stored."""


def deliver(
    *,
    handler_name: str,
    pairs: Sequence[Pair],
    worker: str,
    subscription: int | None = None,
    is_counted: bool = True,
    using: str | None = None,
) -> list[Result]:
    """Run a handler for the deliveries of one message.

    A repeated message has no effect: its delivery has started since it was sent. Deliveries of a
    handler that this code does not have are handed back without an attempt. Those of a paused
    handler are parked. While the database cannot be reached, it waits.

    Args:
        handler_name: the pinned name.
        pairs: (delivery id, token) of each delivery.
        worker: name of the worker, which is stored.
        subscription: run only deliveries of this subscription; None: all of the message.
        is_counted: count the results for charts and metrics, and announce them.
        using: the outbox's database alias.

    Returns:
        One `Result` for each delivery that was started.
    """
    using = using or databases.alias()
    with databases.serving(using):
        return _deliver(handler_name, pairs, worker, subscription, is_counted, using=using)


def _deliver(
    handler_name: str,
    pairs: Sequence[Pair],
    worker: str,
    subscription: int | None,
    is_counted: bool,
    *,
    using: str,
) -> list[Result]:
    access = DatabaseAccess(using)
    access.after_reconnect(partial(heartbeat.report_outage, access))
    handler = find(handler_name)
    if handler is None:
        note = _NO_HANDLER.format(worker=worker, handler=handler_name)
        back = partial(
            settlement.hand_back,
            pairs,
            note=note,
            subscription=subscription,
            using=access.using,
        )
        access.run(back)
        return []
    began = time.monotonic()
    worker = worker[:MAX_WORKER_NAME]
    with access.timed():
        started = start(handler, pairs, worker=worker, subscription=subscription, access=access)
        results = _run_all(handler, started, began=began, access=access)
    if is_counted:
        outcome.announce(handler, results)
    return results


def deliver_started(delivery: Delivery, *, using: str | None = None) -> list[Result]:
    """Run the handler of a delivery that the relay has started for its own process.

    Args:
        delivery: with its event and its subscription.
        using: the outbox's database alias.

    Returns:
        Its `Result`; an empty list if this code lacks the handler or cannot read the event.
    """
    access = DatabaseAccess(using or databases.alias())
    access.after_reconnect(partial(heartbeat.report_outage, access))
    # Its lease began with the pass, and publishing the other messages may have taken long.
    now = clock.now(using=access.using)
    started_at = delivery.started_at or now
    began = time.monotonic() - (now - started_at).total_seconds()
    withdraw_deaths_later(
        [delivery.pk],
        worker=delivery.worker,
        at=started_at,
        access=access,
    )
    name = delivery.subscription.handler
    handler = find(name)
    if handler is None:
        note = _NO_HANDLER.format(worker=delivery.worker, handler=name)
        back = partial(settlement.hand_back_started, delivery, note=note, using=access.using)
        access.run(back)
        return []
    if hand_back_unfit(handler, delivery, access=access):
        return []
    with access.timed():
        results = _run_all(handler, [delivery], began=began, access=access)
    outcome.announce(handler, results)
    return results


def _run_all(
    handler: Handler, started: Sequence[Delivery], *, began: float, access: DatabaseAccess
) -> list[Result]:
    if started:
        failpoints.reach(failpoints.AFTER_START)
    using = access.using
    lease = Lease(started, seconds=handler.lease, using=using)
    access.after_reconnect(lease.renew)
    # A start that waited for a lock may leave too little of the lease for the time limit.
    if time.monotonic() - began > (handler.lease - handler.time_limit) / 2:
        access.run(lease.renew)
    found: list[Result] = []
    if handler.targets:
        found = _find_targets(handler, started, lease=lease, access=access)
        started = [row for row in started if row.target]
    if handler.bulk and started:
        fail = partial(_fail, handler, outages=access.outages, lease=lease, access=access)
        for some in bulk.apart(handler, started):
            found += bulk.run(handler, some, lease=lease, fail=fail, access=access)
        return found
    alone = partial(_run, handler, lease=lease, access=access)
    if calls.may_share(handler) and len(started) > 1:
        return found + batch.run(handler, started, lease=lease, alone=alone, access=access)
    return found + [alone(delivery) for delivery in started]


def _find_targets(
    handler: Handler, started: Sequence[Delivery], *, lease: Lease, access: DatabaseAccess
) -> list[Result]:
    """Run the deliveries that find the targets of their events."""
    finders = [
        (targets.finder(handler, row, using=access.using), row) for row in started if not row.target
    ]
    results = [_run(finder, row, lease=lease, access=access) for finder, row in finders]
    for _finder, row in finders:
        if row.subscription.breaker_probe == row.pk:
            access.run(partial(breaker.probe_again, row, using=access.using))
    return results


def _run(handler: Handler, delivery: Delivery, *, lease: Lease, access: DatabaseAccess) -> Result:
    began, outages = time.monotonic(), access.outages
    with tracing.handling(delivery, handler=handler.name, using=access.using) as traced:
        try:
            access.run(lambda: lease.begin(delivery))
            run = _once(handler, delivery, lease=lease, using=access.using)
            access.run(run, through_outages=False)
            result = Result(delivery.id, Delivery.State.DONE)
        except Exception as caught:  # the other deliveries of the message run in any case
            result = _fail(handler, delivery, caught, outages=outages, lease=lease, access=access)
        lag = _lag(delivery, using=access.using)
        result = replace(result, seconds=time.monotonic() - began, lag=lag)
        outcome.log(handler, delivery, result)
        if result.error is None and handler.breaker is not None:
            breaker.record_answer(delivery, access=access)
        traced.ended(result.outcome)
        if result.failure is not None:
            traced.failed(result.failure.exception, text=result.failure.message)
    return result


def _lag(delivery: Delivery, *, using: str) -> float:
    """Return the seconds since the event was emitted; 0 if the clock cannot be read."""
    try:
        return (clock.now(using=using) - delivery.event.emitted_at).total_seconds()
    except Error:  # only a number for the log; other deliveries wait
        return 0.0


def _fail(
    handler: Handler,
    delivery: Delivery,
    error: Exception,
    *,
    outages: int,
    lease: Lease,
    access: DatabaseAccess,
    for_breaker: bool = True,
) -> Result:
    """Store the failure of a run, unless its receipt is stored and only the answer was lost.

    Never raises, so that the other deliveries of the message run. A delivery whose failure cannot
    be stored stays started. A relay records a worker death after its lease.
    """
    if isinstance(error, TimeLimitExceeded):
        drop_interrupted()
    calls.forget_caches()

    def store() -> tuple[str, Failure]:
        return settlement.fail(
            delivery,
            error,
            handler=handler,
            using=access.using,
            # Evaluated at each try: storing may be the first to notice the outage.
            is_outage=access.outages > outages,
            has_hung=access.has_hung,
            for_breaker=for_breaker,
        )

    try:
        state, failure = access.run(store)
    except Exception as refused:
        return _not_stored(delivery, error, refused, lease=lease, using=access.using)
    if state == Delivery.State.DONE:
        return Result(delivery.id, state)
    return Result(delivery.id, state, error, failure)


def _not_stored(
    delivery: Delivery, error: Exception, refused: Exception, *, lease: Lease, using: str
) -> Result:
    failure, why = (describe(one, delivery.event, using=using) for one in (error, refused))
    refusal = Refusal(failure=why, leased_until=lease.until(delivery))
    return Result(delivery.pk, Delivery.State.SENT, error, failure, refusal=refusal)


def _once(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> Callable[[], None]:
    """Return a function that runs it. Its later calls require that it is owed and still leased."""
    tries = count()
    run_handler = _run_atomic if handler.atomic else _run_with_receipt

    def run() -> None:
        if next(tries):
            calls.forget_caches()
            if given_to([delivery], using=using):  # COMMIT succeeded, its answer was lost
                return
            lease.extend(delivery)
        watch = SessionWatch()
        try:
            with caused_by(calls.cause(handler, delivery)), watch:
                run_handler(handler, delivery, lease=lease, using=using)
        finally:
            watch.drop_changed()

    return run


def _run_atomic(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> None:
    arguments = calls.arguments(handler, delivery)
    guard = partial(Callbacks(handler, lease=lease, using=using).guard, delivery.event)
    with (
        transaction_with_receipt(handler, delivery, after_effects=guard, using=using),
        unchanged_connections(),
        time_limit(handler.time_limit) as limit,
        tenants.restored(delivery.event.tenant),
    ):
        calls.call(handler, arguments, limit)


def _run_with_receipt(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> None:
    with (
        unchanged_connections(),
        time_limit(handler.time_limit) as limit,
        tenants.restored(delivery.event.tenant),
    ):
        guard = partial(Callbacks(handler, lease=lease, using=using).guard, delivery.event)
        receipt = receipt_of(
            handler, delivery, limit, lease=lease, after_effects=guard, using=using
        )
        calls.call(handler, calls.arguments(handler, delivery, receipt=receipt), limit)
    if not receipt.is_given:
        raise ReceiptNotGiven(f"{handler.name} returned without `with receipt:`.")
