"""The start of a message: one commit that says for all its deliveries that a worker has begun.

So a worker that is killed is told from a message that is lost, and what must not run is put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from outbox.contracts import upcasting
from outbox.models import Delivery, Event, Subscription

from . import breaker, failpoints, ordering, settlement
from .lease import duration
from .statements import SENT, Columns, execute, locking, moment, numbers, read

#: A delivery as a message names it: its id and the token it was sent under.
Pair = tuple[int, int]


def start(pairs: Sequence[Pair], *, worker: str, using: str) -> list[Delivery]:
    """Note that the handler starts, attempt + 1 each; return the deliveries that may run.

    Only what is still owed under the token that the message carries, and did not start under it.
    """
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


_D, _E = Columns(Delivery, alias="d"), Columns(Event, alias="e")
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
_DELIVERIES = f"""
SELECT {_D.text}, {_E.text}, {_S.text}
FROM outbox_delivery d
JOIN outbox_event e ON e.seq = d.event_id
JOIN outbox_subscription s ON s.id = d.subscription_id"""  # noqa: S608  names of our own models


def _without_newer(rows: Sequence[Delivery], *, worker: str, using: str) -> list[Delivery]:
    """Hand back events of versions that only a later release, which runs by now, can read."""
    newer = [row for row in rows if upcasting.is_newer(row.event)]
    for row in newer:
        note = f"{worker} cannot read version {row.event.version} of {row.event.name}: older code?"
        settlement.hand_back([(row.id, row.token)], note=note, using=using)
    return [row for row in rows if row not in newer] if newer else list(rows)


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
