"""A batch: many deliveries of an atomic handler share one transaction and one UPDATE of receipts.

Most of the cost of a delivery is its transaction. In a batch the handler is called for one delivery
after the other until the transaction is 20 ms old, so that its locks are short. Then all receipts
are written at once, each under its token. Effects, events and receipts commit in one transaction.

If anything fails, the transaction is rolled back and its deliveries run again. Those before the
call that raised run again as a batch. The one that raised runs alone, and its failure is recorded.
If no call is to blame (a deferred constraint that fails at COMMIT, a stale token), each runs alone.
So a delivery of a batch has the same result as alone, only later. No savepoints are needed: they
would slow down every delivery, and a failure slows down few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

from django.db import connections, transaction

from outbox import clock, tenants, tracing
from outbox.context import Cause, caused_by
from outbox.databases import is_its_own
from outbox.deliveries import breaker, failpoints, receipts
from outbox.deliveries.beside import no_write_beside
from outbox.deliveries.connections import drop_interrupted, unchanged_connections
from outbox.deliveries.lease import Lease
from outbox.deliveries.statements import Statement, bounds, read_each
from outbox.deliveries.time_limit import Limit, TimeLimitExceeded, time_limit
from outbox.deliveries.transient_errors import DatabaseAccess, drop_broken_connection, is_transient
from outbox.models import Delivery
from outbox.subscriptions import Handler
from outbox.tracing import Traced

from . import calls, outcome
from .callbacks import Callbacks
from .calls import SessionStateSet, SessionWatch
from .outcome import Result

#: Age in seconds at which a transaction takes no further delivery.
MOST_SECONDS = 0.02
#: How long a call in a batch waits for a lock; alone it waits without this limit. Otherwise two
#: batches with the same rows in different order would wait until PostgreSQL finds the deadlock.
LOCK_TIMEOUT = "200ms"


class ErrorHidden(Exception):
    """A handler has caught an error of the database within a batch, so it runs again alone.

    In a batch it waits for a lock for a short time only. Alone it waits as long as it takes, and
    perhaps meets no error.
    """


Alone = Callable[[Delivery], Result]


@dataclass(slots=True)
class _Call:
    """A delivery and its handler's arguments; None: creating them raises again when called."""

    delivery: Delivery
    cause: Cause
    arguments: dict[str, Any] | None


@dataclass(slots=True)
class _Return:
    """A call that returned. It is kept if its transaction commits."""

    delivery: Delivery
    seconds: float
    traced: Traced


@dataclass
class _Batch:
    """The calls of one transaction; `running` is the delivery whose call has not returned."""

    returns: list[_Return] = field(default_factory=list)
    running: Delivery | None = None
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
    """Run all deliveries in batches, and those that cannot share a transaction by `alone`."""
    ended: list[Result] = []
    # Before the transactions, to keep them short. Between two statements this takes three times as
    # long, since the database has used the processor.
    left = [_prepared(handler, delivery) for delivery in _by_tenant(deliveries)]
    while left:
        batch = _try(handler, _of_one_tenant(left), lease=lease, access=access)
        if not batch.returns:  # the first failed, so all may: no further batches
            return ended + [alone(call.delivery) for call in left]
        left = left[len(batch.returns) + (batch.running is not None) :]
        if batch.is_kept:
            ended += _done(handler, batch, lease=lease, access=access)
        elif batch.running is not None:
            ended += run(handler, batch.deliveries, lease=lease, alone=alone, access=access)
            ended.append(alone(batch.running))
        else:
            ended += _settle_each(handler, batch, lease=lease, alone=alone, access=access)
    return ended


def _by_tenant(deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
    if not tenants.is_on():
        return deliveries
    return sorted(deliveries, key=lambda row: row.event.tenant or "")


def _of_one_tenant(left: Sequence[_Call]) -> Sequence[_Call]:
    """Return the first calls that have one tenant.

    A transaction has one, since `SET LOCAL` lasts until its end.
    """
    if not tenants.is_on():
        return left
    first = left[0].delivery.event.tenant
    return [*takewhile(lambda call: call.delivery.event.tenant == first, left)]


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
            receipts.give(batch.deliveries, using=using)
            failpoints.reach(failpoints.BEFORE_COMMIT)
        batch.is_kept = True
    except Exception as error:  # the call that is to blame raises it again, alone
        if isinstance(error, TimeLimitExceeded):
            drop_interrupted()
        calls.forget_caches()
        drop_broken_connection(using=using)
        if is_transient(error, using=using):
            access.recover()
    finally:
        # Also after a rollback: it releases no session lock, and affects no other database.
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
    with (
        no_write_beside(using),
        watch,
        unchanged_connections(),
        time_limit(handler.time_limit) as limit,
        tenants.restored(left[0].delivery.event.tenant),
    ):
        watch.is_set = False  # `RESTORE` may set state: that of all calls of this transaction
        for call in left:
            batch.running = call.delivery
            limit.restart()
            traced = _call(handler, call, callbacks, limit, using=using)
            # Django sets it after any error that may leave the connection unusable.
            if is_own and connection.errors_occurred:
                raise ErrorHidden(ErrorHidden.__doc__)
            if watch.is_set:
                calls.deliver_one_by_one(handler)
                raise SessionStateSet(SessionStateSet.__doc__)
            now = time.monotonic()
            batch.returns.append(_Return(call.delivery, now - before, traced))
            batch.running = None
            if now - began > MOST_SECONDS:
                break
            before = now
            failpoints.reach(failpoints.BETWEEN_DELIVERIES)


def _call(
    handler: Handler, call: _Call, callbacks: Callbacks, limit: Limit, *, using: str
) -> Traced:
    delivery = call.delivery
    with (
        tracing.handling(delivery, handler=handler.name, using=using, ends=False) as traced,
        caused_by(call.cause),
    ):
        arguments = call.arguments
        if arguments is None:
            arguments = calls.arguments(handler, delivery)
        calls.call(handler, arguments, limit)
        callbacks.guard(delivery.event)
    return traced


def _bound(handler: Handler, *, using: str) -> None:
    """Limit waits for locks, and let PostgreSQL end a cut-off transaction after the lease."""
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
        outcome.log(handler, one.delivery, result)
        ended.append(result)
    breaker.record_answer(batch.returns[0].delivery, access=access)  # one counts for all
    return ended


def _settle_each(
    handler: Handler, batch: _Batch, *, lease: Lease, alone: Alone, access: DatabaseAccess
) -> list[Result]:
    """Deliver each alone, unless it is done: a COMMIT may succeed although its connection broke."""
    done = access.run(partial(receipts.given_to, batch.deliveries, using=access.using))
    kept = _Batch([one for one in batch.returns if one.delivery.pk in done], seconds=batch.seconds)
    ended = _done(handler, kept, lease=lease, access=access) if done else []
    return ended + [alone(one) for one in batch.deliveries if one.pk not in done]
