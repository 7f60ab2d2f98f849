"""Run one handler for its deliveries: start marker, effects and receipt, or what went wrong.

The protocol, per message: one commit that says "started" for the whole batch (attempt + 1, only
where the token still matches and has not started), then one transaction per delivery in which
effects, emitted events and receipt commit together, fenced by the token.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from outbox import tracing
from outbox.context import Cause, caused_by
from outbox.contracts import upcasting
from outbox.counting import counters
from outbox.models import Delivery
from outbox.privacy.sensitive import masked_text
from outbox.receipt import LeaseLost, Receipt
from outbox.subscriptions import Handler, find
from outbox.transactions import is_open

from . import breaker, failpoints, ordering, settlement
from .attempts import text_of
from .retry import drop_broken_connection, is_transient
from .time_limit import Limit, TimeLimitExceeded, time_limit

logger = logging.getLogger("outbox.delivery")

T = TypeVar("T")

#: A delivery as a message names it: its id and the token it was sent under.
Pair = tuple[int, int]

_TRANSIENT_TRIES = 5
_RENEWED_AFTER = 1 / 3


class ReceiptNotGiven(RuntimeError):
    """The handler returned without `with receipt:`; nothing proves that its effects are stored."""


@dataclass(frozen=True)
class Result:
    """How one delivery of a message ended.

    Attributes:
        delivery_id: its number.
        state: its state afterwards.
        error: what the handler raised, if anything.
        seconds: how long it ran, the record of how it ended included.
        lag: seconds from the event's commit to this end.
    """

    delivery_id: int
    state: str
    error: BaseException | None = None
    seconds: float = 0.0
    lag: float = 0.0

    @property
    def outcome(self) -> str:
        """How the attempt ended, in one word: done, retry, dead, discarded, ..., or lease_lost."""
        if isinstance(self.error, LeaseLost):
            return "lease_lost"
        return "retry" if self.error and self.state == Delivery.State.PENDING else self.state


def deliver(
    *, handler_name: str, pairs: Sequence[Pair], worker: str, using: str = "default"
) -> list[Result]:
    """Run a handler for the deliveries of one message.

    Repeating a message does nothing: a token starts once. Deliveries of a handler that this code
    does not have are handed back and cost no attempt; those of a paused handler are parked.

    Args:
        handler_name: the pinned name.
        pairs: (delivery id, token) of each delivery.
        worker: who runs it, for the record.
        using: the outbox's database alias.

    Returns:
        One `Result` for each delivery that was started.
    """
    handler = find(handler_name)
    if handler is None:
        settlement.hand_back(
            pairs, note=f"{worker} has no handler {handler_name}: older code?", using=using
        )
        return []
    started = _retry_transient(lambda: _start(pairs, worker=worker, using=using), using=using)
    if started:
        failpoints.reach(failpoints.AFTER_START)
    lease = _Lease(started, seconds=handler.lease, using=using)
    return [_run_traced(handler, delivery, lease=lease, using=using) for delivery in started]


def _start(pairs: Sequence[Pair], *, worker: str, using: str) -> list[Delivery]:
    tokens = dict(pairs)
    now = timezone.now()
    with transaction.atomic(using=using):
        rows = (
            Delivery.objects.using(using)
            .select_for_update(of=("self",))
            .select_related("subscription", "event")
            .filter(id__in=tokens, state=Delivery.State.SENT)
            .order_by("id")
        )
        fresh = [row for row in rows if row.started_token < row.token == tokens[row.id]]
        mine = _without_newer(_startable(fresh, using=using), worker=worker, using=using)
        for row in mine:
            row.started_token, row.attempts = row.token, row.attempts + 1
            row.started_at, row.worker = now, worker
        if mine:
            Delivery.objects.using(using).filter(id__in=[row.id for row in mine]).update(
                started_token=F("token"),
                attempts=F("attempts") + 1,
                started_at=now,
                worker=worker,
                due_at=now + _until(len(mine), seconds=mine[0].subscription.lease_seconds),
            )
    return mine


def _without_newer(rows: Sequence[Delivery], *, worker: str, using: str) -> list[Delivery]:
    """Hand back events of versions that only a later release, which runs by now, can read."""
    newer = [row for row in rows if upcasting.is_newer(row.event)]
    for row in newer:
        note = f"{worker} cannot read version {row.event.version} of {row.event.name}: older code?"
        settlement.hand_back([(row.id, row.token)], note=note, using=using)
    return [row for row in rows if row not in newer]


def _startable(rows: Sequence[Delivery], *, using: str) -> list[Delivery]:
    """Put back what must not start by now: its handler is paused or held, or it is not its turn."""
    settlement.park([row for row in rows if row.subscription.paused_at], using=using)
    rows = [row for row in rows if not row.subscription.paused_at]
    held = {row.pk for row in rows if breaker.holds(row)}
    if held:
        settlement.hold_back(list(held), using=using)
    rows = [row for row in rows if row.pk not in held]
    behind = ordering.out_of_turn(rows, using=using)
    if behind:
        ordering.block(behind, using=using)
    return [row for row in rows if row.pk not in behind]


class _Lease:
    """Keeps the lease of a batch alive between its deliveries, so that it need only outlast one."""

    def __init__(self, rows: Sequence[Delivery], *, seconds: float, using: str) -> None:
        self._waiting = [row.id for row in rows]
        self._seconds = seconds
        self._using = using
        self._renewed = time.monotonic()

    def begin(self, delivery: Delivery) -> None:
        """Note that `delivery` is next; extend what is left when a third of the lease is over."""
        if time.monotonic() - self._renewed > self._seconds * _RENEWED_AFTER:
            self._renew(self._waiting, worker=delivery.worker)
        self._waiting.remove(delivery.id)

    def extend(self, delivery: Delivery) -> None:
        """Give the delivery in hand its whole lease again, and those that wait for it theirs."""
        if is_open(connections[self._using]):
            raise RuntimeError("receipt.extend() within a transaction: nobody would see it.")
        until = timezone.now() + _until(1, seconds=self._seconds)
        if not _held(delivery, using=self._using).update(due_at=until):
            raise LeaseLost(LeaseLost.__doc__)
        self._renew(self._waiting, worker=delivery.worker)

    def _renew(self, ids: Sequence[int], *, worker: str) -> None:
        rows = Delivery.objects.using(self._using).filter(id__in=ids, worker=worker)
        started = rows.filter(state=Delivery.State.SENT, started_token=F("token"))
        started.update(due_at=timezone.now() + _until(len(ids), seconds=self._seconds))
        self._renewed = time.monotonic()


def _until(number: int, *, seconds: float) -> timedelta:
    """Say how long a batch is in good hands: whichever is next, it still has its whole lease."""
    return timedelta(seconds=seconds * (1 + _RENEWED_AFTER if number > 1 else 1))


def _run_traced(handler: Handler, delivery: Delivery, *, lease: _Lease, using: str) -> Result:
    with tracing.handling(delivery, handler=handler.name, using=using) as traced:
        result = _run(handler, delivery, lease=lease, using=using)
        traced.ended(result.outcome)
        if result.error is not None:
            text = masked_text(text_of(result.error), delivery.event)
            traced.failed(result.error, text=text)
    return result


def _run(handler: Handler, delivery: Delivery, *, lease: _Lease, using: str) -> Result:
    began = time.monotonic()
    try:
        _retry_transient(lambda: lease.begin(delivery), using=using)
        run_once = partial(_run_once, handler, delivery, lease=lease, using=using)
        _retry_transient(run_once, using=using)
        result = Result(delivery.id, Delivery.State.DONE)
    except Exception as caught:  # whatever a handler raises, its neighbours in the batch go on
        if isinstance(caught, TimeLimitExceeded):
            _leave_interrupted_connections()
        fail = partial(settlement.fail, delivery, caught, handler=handler, using=using)
        result = Result(delivery.id, _retry_transient(fail, using=using), caught)
    result = replace(
        result,
        seconds=time.monotonic() - began,
        lag=(timezone.now() - delivery.event.emitted_at).total_seconds(),
    )
    _log(handler, delivery, result)
    _count(handler, result)
    if result.error is None:
        _tell_breaker(delivery, using=using)
    return result


def _tell_breaker(delivery: Delivery, *, using: str) -> None:
    try:
        _retry_transient(partial(breaker.note_answer, delivery, using=using), using=using)
    except Exception:  # the delivery is done all the same; the next one tells it
        logger.exception("The breaker of %s was not told of an answer.", delivery)


def _retry_transient(action: Callable[[], T], *, using: str) -> T:
    for failed in range(1, _TRANSIENT_TRIES):
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            drop_broken_connection(using=using)
            time.sleep(random.uniform(0, 0.05) * failed)
    return action()


def _leave_interrupted_connections() -> None:
    """Close what a query may have been cut short on: nobody knows in which state it is."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _run_once(handler: Handler, delivery: Delivery, *, lease: _Lease, using: str) -> None:
    event = delivery.event
    cause = Cause(
        correlation_id=event.correlation_id,
        causation_id=event.id,
        emitted_by=handler.name,
        actor=event.actor,
    )
    payload = upcasting.current_payload(event)
    with caused_by(cause):
        if handler.atomic:
            arguments = handler.arguments(payload=payload, facts=_facts(delivery))
            with _receipt_transaction(delivery, using=using), time_limit(handler.time_limit):
                handler.function(**arguments)
            return
        with time_limit(handler.time_limit) as limit:
            receipt = _receipt(delivery, limit, lease=lease, using=using)
            facts = {**_facts(delivery), "receipt": receipt}
            handler.function(**handler.arguments(payload=payload, facts=facts))
    if not receipt.is_given:
        raise ReceiptNotGiven(f"{handler.name} returned without `with receipt:`.")


def _receipt(delivery: Delivery, limit: Limit, *, lease: _Lease, using: str) -> Receipt:
    def open_transaction() -> AbstractContextManager[None]:
        limit.end()  # a commit is not interrupted: nobody would know whether it was one
        return _receipt_transaction(delivery, using=using)

    def extend() -> None:
        lease.extend(delivery)
        limit.restart()

    return Receipt(open_transaction, extend)


def _held(delivery: Delivery, *, using: str) -> QuerySet[Delivery]:
    """The delivery's row, if it is still in these hands."""
    return Delivery.objects.using(using).filter(
        id=delivery.id, token=delivery.token, state=Delivery.State.SENT
    )


@contextmanager
def _receipt_transaction(delivery: Delivery, *, using: str) -> Iterator[None]:
    """Open the transaction that ends with the receipt; raise LeaseLost if the token is stale."""
    held, key = _held(delivery, using=using), delivery.order_key
    with transaction.atomic(using=using):
        if not held.select_for_update().values_list("id").first():
            raise LeaseLost(LeaseLost.__doc__)
        failpoints.reach(failpoints.BEFORE_EFFECTS)
        yield
        failpoints.reach(failpoints.BEFORE_RECEIPT)
        held.update(state=Delivery.State.DONE, settled_at=timezone.now(), note="", order_key=None)
        if key:
            ordering.release((delivery.subscription.handler, key), using=using)
    failpoints.reach(failpoints.AFTER_RECEIPT)


def _facts(delivery: Delivery) -> dict[str, Any]:
    event = delivery.event
    return {
        "event_id": event.id,
        "emitted_at": event.emitted_at,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "actor": event.actor,
        "key": event.key,
        "attempt": delivery.attempts,
    }


def _count(handler: Handler, result: Result) -> None:
    name = handler.name
    counters.count("attempts", name, result.outcome)
    counters.observe("attempt", result.seconds, name, bounds=counters.RUN_BOUNDS)
    if result.error is None:
        counters.observe("delivery", result.lag, name, bounds=counters.WAIT_BOUNDS)


def _log(handler: Handler, delivery: Delivery, result: Result) -> None:
    event, error = delivery.event, result.error
    logger.log(
        logging.WARNING if error else logging.INFO,
        "%s %s %s in %.0f ms%s",
        handler.name,
        event.key,
        result.state,
        result.seconds * 1000,
        f": {type(error).__name__}: {masked_text(text_of(error), event)}" if error else "",
        extra={
            "event": event.name,
            "event_id": str(event.id),
            "handler": handler.name,
            "key": event.key,
            "correlation_id": str(event.correlation_id),
            "attempt": delivery.attempts,
            "outcome": result.outcome,
            "state": result.state,
            "seconds": round(result.seconds, 6),
        },
    )
