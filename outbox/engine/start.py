"""The start of a message: one commit that says for all its deliveries that a worker has begun.

So a worker that is killed is told from a message that is lost, and what must not run is put back.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from outbox.contracts import upcasting
from outbox.models import Delivery, Subscription

from . import breaker, failpoints, ordering, settlement
from .lease import duration

#: A delivery as a message names it: its id and the token it was sent under.
Pair = tuple[int, int]


def start(pairs: Sequence[Pair], *, worker: str, using: str) -> list[Delivery]:
    """Note that the handler starts, attempt + 1 each; return the deliveries that may run.

    Only what is still owed under the token that the message carries, and did not start under it.
    """
    tokens = dict(pairs)
    now = timezone.now()
    with transaction.atomic(using=using):
        rows = (
            Delivery.objects.using(using)
            .select_for_update(of=("self",))
            .select_related("event")
            .filter(id__in=tokens, state=Delivery.State.SENT)
            .order_by("id")
        )
        fresh = [row for row in rows if row.started_token < row.token == tokens[row.id]]
        _attach_subscriptions(fresh, using=using)
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
                due_at=now + duration(len(mine), seconds=mine[0].subscription.lease_seconds),
            )
        failpoints.reach(failpoints.BEFORE_START)
    return mine


def _attach_subscriptions(rows: Sequence[Delivery], *, using: str) -> None:
    """Read them once: a message has one or a few, and each is as wide as event and delivery."""
    subscriptions = Subscription.objects.using(using).in_bulk({row.subscription_id for row in rows})
    for row in rows:
        row.subscription = subscriptions[row.subscription_id]


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
