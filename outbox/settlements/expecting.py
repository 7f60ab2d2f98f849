"""Expect settlements: one row for each consumer of a delivery that a sink has published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from django.db import connections
from django.db.models import QuerySet

from outbox import clock
from outbox.deliveries.statements import timestamp
from outbox.models import Delivery, Settlement
from outbox.policy import SettledBy

from .events import Settled

if TYPE_CHECKING:
    from django.db.models import Field

State = Settlement.State

#: Rows of one INSERT. SQLite allows 32,766 parameters.
_AT_ONCE = 500
_FIELDS = ("delivery", "event", "consumer", "state", "due_at", "seconds", "most_replays", "replays")


def expect(deliveries: Sequence[Delivery], settled_by: SettledBy, *, using: str) -> None:
    """Expect that each consumer settles the events of deliveries, in the receipts' transaction.

    A consumer that has settled the event before stays settled. A report is never expected to be
    settled itself.

    Args:
        deliveries: deliveries whose receipts the caller has just stored, so it has locked them.
        settled_by: their handler's consumers.
        using: the outbox's database alias.
    """
    now = clock.now(using=using)
    due_at = timestamp(now + timedelta(seconds=settled_by.seconds), using=using)
    policy = (State.OPEN.value, due_at, settled_by.seconds, settled_by.replays, 0)
    rows = [
        (row.pk, row.event.id, consumer, *policy)
        for row in deliveries
        if row.event.name != Settled.event_name
        for consumer in settled_by.consumers
    ]
    for start in range(0, len(rows), _AT_ONCE):
        _store(rows[start : start + _AT_ONCE], using=using)


def _store(rows: Sequence[tuple[Any, ...]], *, using: str) -> None:
    connection = connections[using]
    event_id = cast("Field[Any, Any]", Settlement._meta.get_field("event"))
    values: list[Any] = []
    for delivery, event, *others in rows:
        values += [delivery, event_id.get_db_prep_save(event, connection), *others]
    places = ", ".join([f"({', '.join(['%s'] * len(_FIELDS))})"] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(f"{_INSERT} VALUES {places} {_AGAIN}", values)


def withdraw(deliveries: QuerySet[Delivery]) -> None:
    """Expect no settlement of discarded deliveries any more. The caller has locked them."""
    rows = Settlement.objects.using(deliveries.db).filter(delivery__in=list(_ids(deliveries)))
    rows.exclude(state=State.SETTLED).update(state=State.WITHDRAWN)


def expect_again(deliveries: QuerySet[Delivery]) -> None:
    """Start again with the settlements that were missing. The caller has locked the deliveries.

    The receipt of the next publication sets the deadline.
    """
    rows = Settlement.objects.using(deliveries.db).filter(delivery__in=list(_ids(deliveries)))
    rows.filter(state=State.MISSING).update(state=State.OPEN, replays=0)


def _ids(deliveries: QuerySet[Delivery]) -> Iterator[int]:
    yield from deliveries.values_list("pk", flat=True)


_INSERT = """
INSERT INTO outbox_settlement (
    delivery_id, event, consumer, state, due_at, seconds, most_replays, replays
)"""
_AGAIN = """
ON CONFLICT (delivery_id, consumer) DO UPDATE SET
    state = excluded.state,
    due_at = excluded.due_at,
    seconds = excluded.seconds,
    most_replays = excluded.most_replays,
    replays = CASE outbox_settlement.state
        WHEN 'withdrawn' THEN 0 ELSE outbox_settlement.replays END
WHERE outbox_settlement.state <> 'settled'
"""
