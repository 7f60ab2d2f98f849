"""Many deliveries of an atomic handler in one transaction: one commit, and one UPDATE of receipts.

Most of what a delivery costs is its transaction. Here each handler's call is followed by the next,
until a transaction is 20 ms old, so that what it locks is not locked for long; then all receipts
are written at once, each under its token, and effects, events and receipts commit.

If anything goes wrong nothing of the transaction is kept, and what it held is delivered anew: what
came before the call that raised once more together, and that one alone, where its failure is
recorded. Where no call is to blame (a deferred constraint that fails at COMMIT, a lost token) each
is delivered alone. So a delivery is never worse off than alone, only later; and no savepoints are
needed, which would cost every delivery what a failure costs the few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import connections, transaction

from outbox import clock, tracing
from outbox.context import Cause, caused_by
from outbox.deliveries import breaker, failpoints, ordering
from outbox.deliveries.connections import drop_interrupted, unchanged_connections
from outbox.deliveries.lease import Lease, give_receipts, receipts_given
from outbox.deliveries.statements import Statement, bounds, read_each
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.deliveries.transient_errors import DatabaseAccess, drop_broken_connection, is_transient
from outbox.models import Delivery
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler
from outbox.tracing import Traced
from outbox.transactions import is_its_own

from . import calls, isolation, outcome
from .callbacks import Callbacks
from .isolation import SessionStateSet, SessionWatch
from .outcome import Result

#: A transaction that is so old takes no further delivery.
MOST_SECONDS = 0.02
#: How long a call waits for a lock; alone it waits as long as it takes. Two batches that lock the
#: same rows in different order would else stop each other until PostgreSQL finds the deadlock.
LOCK_TIMEOUT = "200ms"


class ErrorHidden(Exception):
    """A handler has caught an error of the database within a batch, so it runs again alone.

    In a batch it waits for a lock for a short time only. Alone it waits as long as it takes, and
    perhaps meets no error.
    """


Alone = Callable[[Delivery], Result]


@dataclass(slots=True)
class _Call:
    """A delivery and what its handler is called with; None: to make that raises, in its turn."""

    delivery: Delivery
    cause: Cause
    arguments: dict[str, Any] | None


@dataclass(slots=True)
class _Return:
    """A call that returned; whether it is kept, its transaction tells."""

    delivery: Delivery
    seconds: float
    traced: Traced


@dataclass
class _Batch:
    """What was tried in one transaction."""

    returns: list[_Return] = field(default_factory=list)
    in_hand: Delivery | None = None
    is_kept: bool = False
    seconds: float = 0.0

    @property
    def deliveries(self) -> list[Delivery]:
        return [one.delivery for one in self.returns]


def run(
    handler: Handler,
    deliveries: Sequence[Delivery],
    *,
    lease: Lease,
    alone: Alone,
    access: DatabaseAccess,
) -> list[Result]:
    """Deliver them all: as many at a time as fit, and by `alone` what does not go together."""
    ended: list[Result] = []
    # Before the transactions, which are shorter so. And between two statements, when the processor
    # has done the database's work, this would take three times as long.
    left = [_prepared(handler, delivery) for delivery in deliveries]
    while left:
        batch = _try(handler, left, lease=lease, access=access)
        if not batch.returns:  # where the first of them fails, all may: that is tried no further
            return ended + [alone(call.delivery) for call in left]
        left = left[len(batch.returns) + (batch.in_hand is not None) :]
        if batch.is_kept:
            ended += _done(handler, batch, lease=lease, access=access)
        elif batch.in_hand is not None:
            ended += run(handler, batch.deliveries, lease=lease, alone=alone, access=access)
            ended.append(alone(batch.in_hand))
        else:
            ended += _settle_each(handler, batch, lease=lease, alone=alone, access=access)
    return ended


def _prepared(handler: Handler, delivery: Delivery) -> _Call:
    cause = calls.cause(handler, delivery)
    try:
        return _Call(delivery, cause, calls.arguments(handler, delivery))
    except Exception:
        return _Call(delivery, cause, None)


def _try(
    handler: Handler, left: Sequence[_Call], *, lease: Lease, access: DatabaseAccess
) -> _Batch:
    batch, began, using = _Batch(), time.monotonic(), access.using
    callbacks, watch = Callbacks(handler, lease=lease, using=using), SessionWatch()
    try:
        lease.keep()
        with transaction.atomic(using=using):
            _bound(handler, using=using)
            failpoints.reach(failpoints.BEFORE_EFFECTS)
            _call_each(handler, left, batch, callbacks, watch, using=using)
            failpoints.reach(failpoints.BEFORE_RECEIPT)
            _give_receipts(batch.deliveries, using=using)
            failpoints.reach(failpoints.BEFORE_COMMIT)
        batch.is_kept = True
    except Exception as error:  # whatever it was, what is to blame for it meets it again, alone
        if isinstance(error, TimeLimitExceeded):
            drop_interrupted()
        isolation.forget_caches()
        drop_broken_connection(using=using)
        if is_transient(error, using=using):
            access.recover()
    finally:
        # Also after a rollback: it ends no lock of the session, and nothing on another database.
        watch.drop_changed()
    batch.seconds = time.monotonic() - began
    for one in batch.returns:
        one.traced.ended("done" if batch.is_kept else "rolled_back")
    return batch


def _call_each(
    handler: Handler,
    left: Sequence[_Call],
    batch: _Batch,
    callbacks: Callbacks,
    watch: SessionWatch,
    *,
    using: str,
) -> None:
    connection = connections[using]
    is_own = is_its_own(connection)
    if is_own:
        connection.errors_occurred = False
    began = before = time.monotonic()
    with watch, unchanged_connections(), time_limit(handler.time_limit) as limit:
        for call in left:
            batch.in_hand = call.delivery
            limit.restart()
            traced = _call(handler, call, callbacks, using=using)
            # Django sets it at any error after which the connection may be unusable.
            if is_own and connection.errors_occurred:
                raise ErrorHidden(ErrorHidden.__doc__)
            if watch.is_set:
                isolation.deliver_one_by_one(handler)
                raise SessionStateSet(SessionStateSet.__doc__)
            now = time.monotonic()
            batch.returns.append(_Return(call.delivery, now - before, traced))
            batch.in_hand = None
            if now - began > MOST_SECONDS:
                break
            before = now
            failpoints.reach(failpoints.BETWEEN_DELIVERIES)


def _call(handler: Handler, call: _Call, callbacks: Callbacks, *, using: str) -> Traced:
    delivery = call.delivery
    with (
        tracing.handling(delivery, handler=handler.name, using=using, ends=False) as traced,
        caused_by(call.cause),
    ):
        arguments = call.arguments
        if arguments is None:
            arguments = calls.arguments(handler, delivery)
        isolation.call(handler, arguments)
        callbacks.guard(delivery.event)
    return traced


def _give_receipts(deliveries: Sequence[Delivery], *, using: str) -> None:
    """Write all receipts; raise `LeaseLost`, so that nothing is kept, if one token is stale."""
    if give_receipts(deliveries, using=using) != len(deliveries):
        raise LeaseLost(LeaseLost.__doc__)
    for delivery in deliveries:
        if delivery.order_key:
            line = (delivery.subscription.handler, delivery.order_key)
            ordering.release(line, using=using)


def _bound(handler: Handler, *, using: str) -> None:
    """Wait a short time for locks; end with the lease if this process is cut off."""
    if bound := bounds(handler.lease, using=using):
        read_each(Statement(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"), *bound, using=using)


def _done(handler: Handler, batch: _Batch, *, lease: Lease, access: DatabaseAccess) -> list[Result]:
    failpoints.reach(failpoints.AFTER_RECEIPT)
    share = (batch.seconds - sum(one.seconds for one in batch.returns)) / len(batch.returns)
    now = clock.now(using=access.using)
    ended = []
    for one in batch.returns:
        lease.end(one.delivery)
        lag = (now - one.delivery.event.emitted_at).total_seconds()
        seconds = one.seconds + share
        result = Result(one.delivery.pk, Delivery.State.DONE, seconds=seconds, lag=lag)
        outcome.record(handler, one.delivery, result)
        ended.append(result)
    breaker.record_answer(batch.returns[0].delivery, access=access)  # which is that of them all
    return ended


def _settle_each(
    handler: Handler, batch: _Batch, *, lease: Lease, alone: Alone, access: DatabaseAccess
) -> list[Result]:
    """Deliver each alone; a connection that broke at COMMIT may have committed all the same."""
    done = access.run(partial(receipts_given, batch.deliveries, using=access.using))
    kept = _Batch([one for one in batch.returns if one.delivery.pk in done], seconds=batch.seconds)
    ended = _done(handler, kept, lease=lease, access=access) if done else []
    return ended + [alone(one) for one in batch.deliveries if one.pk not in done]
