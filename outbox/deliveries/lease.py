"""Starts and leases: the run that holds a delivery, and for how long.

Worker, token and time identify a start. The delivery's id and token alone do not: after a failover
to a standby that lacks the last commits, a new event can get the id of a lost one, and its first
token is 1 again. The worker that had the lost delivery must not settle the new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections

from outbox import clock
from outbox.databases import is_open
from outbox.models import Delivery, Event, Subscription
from outbox.receipt import LeaseLost

from .statements import SENT, Columns, Statement, numbers, read, stored, timestamp

#: Maximum number of stored characters of a worker's name.
MAX_WORKER_NAME = 150

#: A delivery in a message: its id and the token under which it was sent.
Pair = tuple[int, int]

_RENEWED_AFTER = 1 / 3

#: Columns of an event for a handler or its trace. Others are read only when a call fails.
EVENT = Columns(
    Event,
    alias="e",
    names=(
        "seq",
        "id",
        "name",
        "version",
        "key",
        "payload",
        "emitted_at",
        "correlation_id",
        "causation_id",
        "actor",
        "tenant",
        "traceparent",
        "tracestate",
        "fanned_out_at",
    ),
)
#: Columns of a subscription that a start needs. They are read once for each delivery.
SUBSCRIPTION = Columns(
    Subscription,
    alias="s",
    names=(
        "id",
        "handler",
        "paused_at",
        "breaker_failures",
        "breaker_opened_at",
        "breaker_probe",
    ),
)


class Start(NamedTuple):
    """One start of deliveries by a worker; deliveries of one message nearly always share it."""

    token: int
    worker: str
    at: datetime

    @classmethod
    def of(cls, delivery: Delivery) -> Start:
        """Return the start that a delivery instance records."""
        assert delivery.started_at is not None
        return cls(delivery.token, delivery.worker, delivery.started_at)

    def values(self, *, using: str) -> tuple[object, ...]:
        """Return the parameters of `STARTED`."""
        return self.token, timestamp(self.at, using=using), self.worker


class Lease:
    """The lease of one message's deliveries.

    The worker renews it between the deliveries, so it has to outlast only one of them.

    Args:
        rows: the deliveries that were started.
        seconds: the handler's lease.
        using: the outbox's database alias.
    """

    def __init__(self, rows: Sequence[Delivery], *, seconds: float, using: str) -> None:
        self._waiting = {row.id for row in rows}
        self._starts = by_start(rows)
        self._until = {row.id: row.due_at for row in rows}
        self._lost: set[int] = set()
        self._seconds = seconds
        self._using = using
        self._renewed = time.monotonic()

    def begin(self, delivery: Delivery) -> None:
        """Record that `delivery` runs next; extend the others' lease if a third of it is over.

        Raises:
            LeaseLost: another worker has the delivery, or it was declared dead.
        """
        self.keep()
        self._waiting.discard(delivery.id)
        if delivery.id in self._lost:
            raise LeaseLost(LeaseLost.__doc__)

    def is_lost(self, delivery: Delivery) -> bool:
        """Return whether another worker has the delivery, or it was declared dead."""
        return delivery.id in self._lost

    def keep(self) -> None:
        """Extend the lease of the waiting deliveries if a third of it is over."""
        if time.monotonic() - self._renewed > self._seconds * _RENEWED_AFTER:
            self.renew()

    def end(self, delivery: Delivery) -> None:
        """Record that `delivery` no longer needs a lease."""
        self._waiting.discard(delivery.id)

    def until(self, delivery: Delivery) -> datetime:
        """Return the end of the lease of `delivery`, as this run has last stored it."""
        return self._until[delivery.id]

    def extend(self, delivery: Delivery) -> None:
        """Restart the whole lease of the running delivery and of those that wait behind it.

        Raises:
            LeaseLost: another worker has the delivery, or it was declared dead.
            RuntimeError: a transaction is open, so no other process could see the new lease.
        """
        if is_open(connections[self._using]):
            raise RuntimeError(
                "receipt.extend() was called within a transaction, so no relay would see the new "
                "lease. Call it outside of the transaction."
            )
        if not self._extend([delivery.id], number=1):
            raise LeaseLost(LeaseLost.__doc__)
        self.renew()

    def renew(self) -> None:
        """Extend the lease of the waiting deliveries, and note the lost ones."""
        # Each of them waits behind a run, so also the last one needs more than its own time.
        held = self._extend(self._waiting, number=len(self._waiting) + 1)
        self._lost |= self._waiting - held
        self._renewed = time.monotonic()

    def _extend(self, ids: Iterable[int], *, number: int) -> set[int]:
        """Extend the lease of deliveries; return the ids of those that are still held."""
        ends = clock.now(using=self._using) + duration(number, seconds=self._seconds)
        until = timestamp(ends, using=self._using)
        held: set[int] = set()
        for start, started in self._starts.items():
            wanted = started & set(ids)
            if wanted:
                values = start.values(using=self._using)
                statement = f"{_EXTEND} WHERE id IN ({numbers(wanted)}) AND {HELD} RETURNING id"
                held |= {pk for (pk,) in read(statement, until, *values, using=self._using)}
        self._until.update(dict.fromkeys(held, ends))
        return held


def duration(number: int, *, seconds: float) -> timedelta:
    """Return the lease of `number` deliveries: the next one always has `seconds` left."""
    return timedelta(seconds=seconds * (1 + _RENEWED_AFTER if number > 1 else 1))


def by_start(rows: Iterable[Delivery]) -> dict[Start, set[int]]:
    """Return the ids of deliveries by their start."""
    ids: dict[Start, set[int]] = {}
    last: object = None
    for row in rows:
        this = row.token, row.worker, row.started_at
        if this != last:  # nearly always all have one, and hashing a time takes long
            its, last = ids.setdefault(Start.of(row), set()), this
        its.add(row.id)
    return ids


def by_token(pairs: Iterable[Pair]) -> dict[int, list[int]]:
    """Return delivery ids by token; one message nearly always has one token."""
    ids: dict[int, list[int]] = {}
    for delivery_id, token in pairs:
        ids.setdefault(token, []).append(delivery_id)
    return ids


def event_of(seq: int) -> Statement:
    """Return the statement that reads the columns of an event for a handler."""
    return Statement(f"SELECT {EVENT.text} FROM outbox_event e WHERE e.seq = {seq:d}")  # noqa: S608  ours


def reads_after_start(
    pairs: Sequence[Pair], subscription: int | None, *, using: str
) -> tuple[Statement, Statement]:
    """Return the reads that follow the UPDATE of a start: held subscriptions, then events.

    A held one is paused, or has an open breaker. The UPDATE may have read it before it waited for a
    lock. The events are those of the whole message, since most deliveries start.
    """
    whose = f"FROM outbox_delivery d WHERE d.id IN ({numbers(pk for pk, _token in pairs)})"
    subscriptions = f"SELECT d.subscription_id {whose}"
    if subscription is not None:
        subscriptions = f"{subscription:d}"
    held = (
        "SELECT s.id FROM outbox_subscription s "  # noqa: S608  ours
        "WHERE (s.paused_at IS NOT NULL OR s.breaker_opened_at IS NOT NULL) "
        f"AND s.id IN ({subscriptions})"
    )
    # PostgreSQL may plan IN (SELECT ...) as a scan of all events, but an array as probes.
    seqs = f"SELECT d.event_id {whose}"
    given = f"= ANY(ARRAY({seqs}))" if connections[using].vendor == "postgresql" else f"IN ({seqs})"
    its = f"SELECT {EVENT.text} FROM outbox_event e WHERE e.seq {given}"  # noqa: S608  ours
    return Statement(held), Statement(its)


def started(
    row: Sequence[Any],
    subscription: Subscription,
    *,
    worker: str,
    at: datetime,
    until: datetime,
    using: str,
) -> Delivery:
    """Return a delivery from a row of its start, with its subscription."""
    pk, event_id, token, attempts, target, order_key = row
    values = {
        "id": pk,
        "event_id": event_id,
        "subscription_id": subscription.pk,
        "state": Delivery.State.SENT,
        "token": token,
        "started_token": token,
        "attempts": attempts,
        "target": target,
        "order_key": order_key,
        "started_at": at,
        "worker": worker,
        "due_at": until,
    }
    return stored(Delivery, values, using=using, related={"subscription": subscription})


def unhindered(pk: int, handler: str, *, failures: int, using: str) -> Subscription:
    """Return the subscription of a start: it is not paused, and its breaker is closed."""
    values = {
        "id": pk,
        "handler": handler,
        "paused_at": None,
        "breaker_failures": failures,
        "breaker_opened_at": None,
        "breaker_probe": None,
    }
    return stored(Subscription, values, using=using)


def started_by_relay(
    pk: int,
    subscription: Subscription,
    event: Sequence[Any],
    *,
    worker: str,
    at: datetime,
    using: str,
) -> Delivery:
    """Return the delivery that the relay has stored as started, with its event."""
    of_event = EVENT.read(event, using=using)
    row = (pk, of_event.seq, 1, 1, "", None)
    failures = subscription.breaker_failures
    its = unhindered(subscription.pk, subscription.handler, failures=failures, using=using)
    until = at + duration(1, seconds=subscription.lease_seconds)
    delivery = started(row, its, worker=worker, at=at, until=until, using=using)
    delivery.event = of_event
    return delivery


def is_started(delivery: Delivery, *, using: str) -> bool:
    """Return whether this start is stored and still holds the delivery."""
    statement = f"SELECT id FROM outbox_delivery WHERE id = %s AND {HELD}"  # noqa: S608  ours
    values = Start.of(delivery).values(using=using)
    return bool(read(statement, delivery.id, *values, using=using))


#: Condition "this start was the last one". Its parameters are `Start.values`.
STARTED = "token = %s AND started_token = token AND started_at = %s AND worker = %s"
#: Condition "this start holds the delivery".
HELD = f"{STARTED} AND {SENT}"
_EXTEND = "UPDATE outbox_delivery SET due_at = %s"
