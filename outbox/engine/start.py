"""The start of a message: one commit that says for all its deliveries that a worker has begun.

So a worker that is killed is told from a message that is lost, and what must not run is put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from django.db import transaction
from django.utils import timezone

from outbox.contracts import upcasting
from outbox.models import Delivery, Event, Subscription
from outbox.subscriptions import Handler

from . import breaker, failpoints, ordering, settlement
from .lease import by_token, duration
from .retry import retry_transient
from .statements import (
    SENT,
    Columns,
    Statement,
    execute,
    locking,
    moment,
    numbers,
    read,
    read_each,
    stored,
)

State = Delivery.State

#: A delivery as a message names it: its id and the token it was sent under.
Pair = tuple[int, int]


def start(handler: Handler, pairs: Sequence[Pair], *, worker: str, using: str) -> list[Delivery]:
    """Note that the handler starts, attempt + 1 each; return the deliveries that may run.

    Only what is still owed under the token that the message carries, and did not start under it.
    Nearly always nothing stands in the way, and one UPDATE starts them all. What it leaves out is
    looked at with care, and put back if it must not run.
    """
    mine = [] if handler.ordered else _start_free(handler, pairs, worker=worker, using=using)
    started = {row.id for row in mine}
    left = [pair for pair in pairs if pair[0] not in started]
    if left:
        with_care = partial(_start_with_care, left, worker=worker, using=using)
        mine += retry_transient(with_care, using=using)
    return mine


def _start_free(
    handler: Handler, pairs: Sequence[Pair], *, worker: str, using: str
) -> list[Delivery]:
    """Start what nothing stands in the way of, by a statement that commits by itself."""
    now = timezone.now()
    until = now + duration(len(pairs), seconds=handler.lease)
    values = (moment(now, using=using), worker, moment(until, using=using))
    statements = [
        Statement(f"{_STARTED} WHERE id IN ({numbers(ids)}) AND {_FREE}", (*values, token))
        for token, ids in by_token(pairs).items()
    ]
    events = Statement(f"{_EVENTS_OF} ({numbers(pk for pk, _token in pairs)}))")
    failpoints.reach(failpoints.BEFORE_START)
    # With their events at once: the second half of an answer cannot be lost by itself.
    send = partial(read_each, *statements, events, using=using)
    *found, read = retry_transient(send, using=using)
    same = {"state": State.SENT, "started_at": now, "worker": worker, "due_at": until}
    mine = [_free(row, handler, same, using=using) for rows in found for row in rows]
    mine.sort(key=attrgetter("id"))
    told = {event.seq: event for event in (_E.read(row, using=using) for row in read)}
    for row in mine:
        row.event = told[row.event_id]
    newer = [row for row in mine if upcasting.is_newer(row.event)]
    for row in newer:
        settlement.hand_back_started(row, note=_newer(row, worker), using=using)
    return [row for row in mine if row not in newer] if newer else mine


def _free(row: Sequence[Any], handler: Handler, same: Mapping[str, Any], *, using: str) -> Delivery:
    """Make a delivery of what its start returned. Its handler is not paused, its breaker closed."""
    pk, event_id, subscription_id, token, attempts, failures = row
    own = {"id": pk, "event_id": event_id, "subscription_id": subscription_id, "token": token}
    counted = {"started_token": token, "attempts": attempts, "order_key": None}
    delivery = stored(Delivery, {**same, **own, **counted}, using=using)
    known = {"id": subscription_id, "handler": handler.name, "breaker_failures": failures}
    closed = {"paused_at": None, "breaker_opened_at": None, "breaker_probe": None}
    delivery.subscription = stored(Subscription, {**known, **closed}, using=using)
    return delivery


def _start_with_care(pairs: Sequence[Pair], *, worker: str, using: str) -> list[Delivery]:
    tokens = dict(pairs)
    now = timezone.now()
    with transaction.atomic(using=using):
        rows = _lock(tokens, using=using)
        fresh = [row for row in rows if row.started_token < row.token == tokens[row.id]]
        mine = _without_newer(_startable(fresh, using=using), worker=worker, using=using)
        for row in mine:
            row.started_token, row.attempts = row.token, row.attempts + 1
            row.started_at, row.worker = now, worker
        if mine:
            until = now + duration(len(mine), seconds=mine[0].subscription.lease_seconds)
            _mark(mine, now=now, until=until, using=using)
        failpoints.reach(failpoints.BEFORE_START)
    return mine


def _lock(ids: Iterable[int], *, using: str) -> list[Delivery]:
    """Lock and read deliveries with their events, and with what says whether they may start."""
    where = f"d.id IN ({numbers(ids)}) AND d.{SENT} ORDER BY d.id"
    rows = read(f"{_DELIVERIES} WHERE {where}{locking(using=using, of=('d',))}", using=using)
    subscriptions: dict[int, Subscription] = {}  # one or a few: each is made once
    deliveries = []
    for row in rows:
        delivery = _D.read(row[: len(_D)], using=using)
        delivery.event = _E.read(row[len(_D) : -len(_S)], using=using)
        pk = delivery.subscription_id
        if pk not in subscriptions:
            subscriptions[pk] = _S.read(row[-len(_S) :], using=using)
        delivery.subscription = subscriptions[pk]
        deliveries.append(delivery)
    return deliveries


def _mark(rows: Sequence[Delivery], *, now: datetime, until: datetime, using: str) -> None:
    ids = numbers(row.id for row in rows)
    values = (moment(now, using=using), rows[0].worker, moment(until, using=using))
    execute(f"{_STARTED} WHERE id IN ({ids})", *values, using=using)


_STARTED = """
UPDATE outbox_delivery
SET started_token = token, attempts = attempts + 1, started_at = %s, worker = %s, due_at = %s"""
_D = Columns(Delivery, alias="d")
# Of an event what a handler, or its trace, may ask for; the rest is read where a call fails.
_E = Columns(
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
        "traceparent",
        "fanned_out_at",
    ),
)
# Of a subscription only what each start asks for: it comes with each delivery again.
_S = Columns(
    Subscription,
    alias="s",
    names=(
        "id",
        "handler",
        "paused_at",
        "lease_seconds",
        "breaker_failures",
        "breaker_opened_at",
        "breaker_probe",
    ),
)
_FREE = f"""
token = %s AND started_token < token AND {SENT} AND order_key IS NULL AND (
    SELECT s.paused_at IS NULL AND s.breaker_opened_at IS NULL
    FROM outbox_subscription s WHERE s.id = subscription_id
)
RETURNING id, event_id, subscription_id, token, attempts, (
    SELECT s.breaker_failures FROM outbox_subscription s WHERE s.id = subscription_id
)"""  # noqa: S608  ours
_EVENTS_OF = f"""
SELECT {_E.text} FROM outbox_event e
WHERE e.seq IN (SELECT d.event_id FROM outbox_delivery d WHERE d.id IN"""  # noqa: S608  ours
_DELIVERIES = f"""
SELECT {_D.text}, {_E.text}, {_S.text}
FROM outbox_delivery d
JOIN outbox_event e ON e.seq = d.event_id
JOIN outbox_subscription s ON s.id = d.subscription_id"""  # noqa: S608  names of our own models


def _without_newer(rows: Sequence[Delivery], *, worker: str, using: str) -> list[Delivery]:
    """Hand back events of versions that only a later release, which runs by now, can read."""
    newer = [row for row in rows if upcasting.is_newer(row.event)]
    for row in newer:
        settlement.hand_back([(row.id, row.token)], note=_newer(row, worker), using=using)
    return [row for row in rows if row not in newer] if newer else list(rows)


def _newer(row: Delivery, worker: str) -> str:
    return f"{worker} cannot read version {row.event.version} of {row.event.name}: older code?"


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
