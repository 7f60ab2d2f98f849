"""The settlements that each consumer of a sink owes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, Min, Q, When

from outbox import clock, databases
from outbox.models import Settlement, Subscription

State = Settlement.State


@dataclass(frozen=True, kw_only=True)
class ConsumerStatus:
    """The settlements that one consumer owes for the events of one sink.

    Attributes:
        consumer: its name, in `CONSUMERS` of the sink.
        handler: pinned name of the sink's handler, "sinks.orders".
        open: number of expected settlements.
        late: number of these that have missed a deadline.
        missing: number of settlements whose delivery is dead because of them.
        next_due: the earliest deadline of an open one.
    """

    consumer: str
    handler: str
    open: int = 0
    late: int = 0
    missing: int = 0
    next_due: datetime | None = None

    @property
    def is_on(self) -> bool:
        """Whether it settles in time."""
        return not (self.late or self.missing)


def consumer_statuses(
    rows: Iterable[Subscription], *, using: str | None = None
) -> list[ConsumerStatus]:
    """Return the settlements that consumers owe, by consumer and sink.

    Cost: two queries that read open and missing settlements only. Without consumers, none.

    Args:
        rows: the active subscriptions.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    expected = {(name, row.pk): row.handler for row in rows for name in row.consumer_names}
    if not expected:
        return []
    found = _counts(using)
    return [
        ConsumerStatus(consumer=consumer, handler=handler, **found.get((consumer, pk), {}))
        for (consumer, pk), handler in sorted(expected.items())
    ]


def is_late(now: datetime) -> Q:
    """Return the condition that an open settlement has missed a deadline."""
    return Q(due_at__lte=now) | Q(replays__gt=0)


def _counts(using: str) -> dict[tuple[str, int], dict[str, Any]]:
    settlements = Settlement.objects.using(using)
    now = clock.now(using=using)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    opened = settlements.filter(state=State.OPEN).values("consumer", "delivery__subscription")
    opened = opened.annotate(
        open=Count("pk"), late=Count(Case(When(is_late(now), then=1))), next_due=Min("due_at")
    )
    missing = settlements.filter(state=State.MISSING).values("consumer", "delivery__subscription")
    missing = missing.annotate(missing=Count("pk"))
    for row in [*opened.order_by(), *missing.order_by()]:
        columns: dict[str, Any] = {**row}
        place = (columns.pop("consumer"), columns.pop("delivery__subscription"))
        found.setdefault(place, {}).update(columns)
    return found
