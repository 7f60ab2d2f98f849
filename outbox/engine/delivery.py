"""Run one handler for its deliveries: start marker, effects and receipt, or what went wrong.

The protocol, per message: a commit that says "started" for the whole batch (attempt + 1, only
where the token still matches and has not started; see `start`), then effects, emitted events and
receipt in one commit, fenced by the token: of one delivery, or of many where the handler allows it
(`together`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count

from django.db import transaction

from outbox import clock, databases, tracing
from outbox.context import caused_by
from outbox.models import Delivery
from outbox.privacy.sensitive import masked_text
from outbox.receipt import LeaseLost, Receipt
from outbox.subscriptions import Handler, find

from . import breaker, calls, failpoints, ordering, results, settlement, together
from .attempts import text_of
from .connections import drop_interrupted, unchanged_connections
from .lease import Lease, give_receipts, has_receipt, lock_held
from .results import Result
from .retry import retry_transient
from .start import Pair, hand_back_newer, start
from .time_limit import Limit, TimeLimitExceeded, time_limit


class ReceiptNotGiven(RuntimeError):
    """The handler returned without `with receipt:`; nothing proves that its effects are stored."""


def deliver(
    *,
    handler_name: str,
    pairs: Sequence[Pair],
    worker: str,
    subscription: int | None = None,
    using: str | None = None,
) -> list[Result]:
    """Run a handler for the deliveries of one message.

    Repeating a message does nothing: a token starts once. Deliveries of a handler that this code
    does not have are handed back and cost no attempt; those of a paused handler are parked.

    Args:
        handler_name: the pinned name.
        pairs: (delivery id, token) of each delivery.
        worker: who runs it, for the record.
        subscription: runs what is of this one alone; None: whatever the message names.
        using: the outbox's database alias.

    Returns:
        One `Result` for each delivery that was started.
    """
    using = using or databases.alias()
    handler = find(handler_name)
    if handler is None:
        note = f"{worker} has no handler {handler_name}: older code?"
        settlement.hand_back(pairs, note=note, subscription=subscription, using=using)
        return []
    began = time.monotonic()
    started = start(handler, pairs, worker=worker, subscription=subscription, using=using)
    return _run_all(handler, started, began=began, using=using)


def deliver_started(delivery: Delivery, *, using: str | None = None) -> list[Result]:
    """Run the handler of a delivery that the relay has started for this very process.

    Args:
        delivery: with its event and its subscription.
        using: the outbox's database alias.

    Returns:
        Its `Result`; nothing if this code cannot read its event.
    """
    using = using or databases.alias()
    # Its lease counts from the pass, and what else the relay had to publish may have taken long.
    now = clock.now(using=using)
    waited = (now - (delivery.started_at or now)).total_seconds()
    began = time.monotonic() - waited
    handler = find(delivery.subscription.handler)
    if handler is None or hand_back_newer(delivery, worker=delivery.worker, using=using):
        return []
    return _run_all(handler, [delivery], began=began, using=using)


def _run_all(
    handler: Handler, started: Sequence[Delivery], *, began: float, using: str
) -> list[Result]:
    if started:
        failpoints.reach(failpoints.AFTER_START)
    lease = Lease(started, seconds=handler.lease, using=using)
    # One that waited for a lock may have left too little of the leases for the handler's limit.
    if time.monotonic() - began > (handler.lease - handler.time_limit) / 2:
        retry_transient(lease.renew, using=using)
    alone = partial(_run_traced, handler, lease=lease, using=using)
    if handler.together and len(started) > 1:
        return together.run(handler, started, lease=lease, alone=alone, using=using)
    return [alone(delivery) for delivery in started]


def _run_traced(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> Result:
    with tracing.handling(delivery, handler=handler.name, using=using) as traced:
        result = _run(handler, delivery, lease=lease, using=using)
        traced.ended(result.outcome)
        if result.error is not None:
            text = masked_text(text_of(result.error), delivery.event)
            traced.failed(result.error, text=text)
    return result


def _run(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> Result:
    began = time.monotonic()
    try:
        retry_transient(lambda: lease.begin(delivery), using=using)
        retry_transient(_once(handler, delivery, lease=lease, using=using), using=using)
        result = Result(delivery.id, Delivery.State.DONE)
    except Exception as caught:  # whatever a handler raises, its neighbours in the batch go on
        if isinstance(caught, TimeLimitExceeded):
            drop_interrupted()
        fail = partial(settlement.fail, delivery, caught, handler=handler, using=using)
        result = Result(delivery.id, retry_transient(fail, using=using), caught)
    result = replace(
        result,
        seconds=time.monotonic() - began,
        lag=(clock.now(using=using) - delivery.event.emitted_at).total_seconds(),
    )
    results.tell(handler, delivery, result)
    if result.error is None:
        breaker.tell_answer(delivery, using=using)
    return result


def _once(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> Callable[[], None]:
    """Return what runs it; once more only if the COMMIT, whose answer was lost, did not happen."""
    tries = count()

    def run() -> None:
        if not (next(tries) and has_receipt(delivery, using=using)):
            _run_once(handler, delivery, lease=lease, using=using)

    return run


def _run_once(handler: Handler, delivery: Delivery, *, lease: Lease, using: str) -> None:
    with caused_by(calls.cause(handler, delivery)):
        if handler.atomic:
            arguments = calls.arguments(handler, delivery)
            with (
                _transaction(delivery, using=using),
                unchanged_connections(),
                time_limit(handler.time_limit),
            ):
                handler.function(**arguments)
            return
        with unchanged_connections(), time_limit(handler.time_limit) as limit:
            receipt = _receipt(delivery, limit, lease=lease, using=using)
            handler.function(**calls.arguments(handler, delivery, receipt=receipt))
    if not receipt.is_given:
        raise ReceiptNotGiven(f"{handler.name} returned without `with receipt:`.")


def _receipt(delivery: Delivery, limit: Limit, *, lease: Lease, using: str) -> Receipt:
    def open_transaction() -> AbstractContextManager[None]:
        limit.end()  # a commit is not interrupted: nobody would know whether it was one
        return _receipt_transaction(delivery, using=using)

    def extend() -> None:
        lease.extend(delivery)
        limit.restart()

    return Receipt(open_transaction, extend)


@contextmanager
def _receipt_transaction(delivery: Delivery, *, using: str) -> Iterator[None]:
    """As `_transaction`; raise LeaseLost before anything is done in it."""
    with _transaction(delivery, using=using):
        if not lock_held(delivery, using=using):
            raise LeaseLost(LeaseLost.__doc__)
        yield


@contextmanager
def _transaction(delivery: Delivery, *, using: str) -> Iterator[None]:
    """Open the transaction that ends with the receipt; raise LeaseLost if the token is stale."""
    key = delivery.order_key
    with transaction.atomic(using=using):
        failpoints.reach(failpoints.BEFORE_EFFECTS)
        yield
        failpoints.reach(failpoints.BEFORE_RECEIPT)
        if not give_receipts([delivery.id], token=delivery.token, using=using):
            raise LeaseLost(LeaseLost.__doc__)
        if key:
            ordering.release((delivery.subscription.handler, key), using=using)
    failpoints.reach(failpoints.AFTER_RECEIPT)
