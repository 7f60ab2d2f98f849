"""The number of worker processes that each queue needs at present: for autoscalers and dashboards.

It is computed from due deliveries, since the length of a broker's queue is bounded by the windows
of the handlers. In a steady state it makes deliveries wait for `OUTBOX["TARGET_LAG_SECONDS"]`: if
fewer processes run than the rate of deliveries needs, the number of due deliveries grows, and with
it the number of processes (Little's law).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.db.models import IntegerField, OuterRef, QuerySet, Subquery

from outbox import clock, databases
from outbox.conf import conf
from outbox.counting import minutes
from outbox.deliveries.breaker import circuit_of
from outbox.models import Delivery, Subscription

State = Delivery.State

#: Most deliveries of one subscription that are counted in each state.
MOST_COUNTED = 100_000
#: The time over which the duration of a handler's runs is measured.
MEASURED = timedelta(hours=1)
#: The duration of a run of a handler that has none in that time, in seconds.
UNKNOWN_SECONDS = 1.0

_COUNT = "SELECT COUNT(*) FROM (%(subquery)s) AS counted"


@dataclass(frozen=True, kw_only=True)
class QueueDemand:
    """The work that waits for the workers of one queue.

    Attributes:
        queue: name of the queue.
        due: number of deliveries that a worker has to run now, those in flight included.
            Deliveries that wait for a time, a person or an earlier event of their key do not count.
        seconds: the expected run time of these.
        workers_wanted: number of processes that run them within the target lag, at most as many
            as the windows of the handlers let run; 0 only if none is due.
    """

    queue: str
    due: int
    seconds: float
    workers_wanted: int


def queue_demands(*, using: str | None = None) -> list[QueueDemand]:
    """Return the demand of each queue of an active subscription, by name.

    Cost: one query, which counts at most `MOST_COUNTED` deliveries of a subscription and state, and
    one query of the last hour's minutes if a delivery is due.

    Args:
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    now = clock.now(using=using)
    rows = list(_counted(now, using=using))
    due = {row.pk: _due(row, now) for row in rows}
    busy = {row.handler for row in rows if due[row.pk]}
    means = minutes.mean_seconds(busy, length=MEASURED, using=using) if busy else {}
    found: dict[str, list[tuple[int, float, int]]] = {}
    for row in rows:
        mean = means.get(row.handler, UNKNOWN_SECONDS)
        found.setdefault(row.queue, []).append((due[row.pk], mean, _most(row)))
    return [_demand(queue, found[queue]) for queue in sorted(found)]


class _BoundedCount(Subquery):
    """The number of rows of a sliced query. The database stops counting at the limit."""

    template = f"({_COUNT})"
    output_field = IntegerField()


def _counted(now: datetime, *, using: str) -> QuerySet[Any]:
    """Return the active subscriptions with their `pending` due and their `in_flight` deliveries."""
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk")).order_by()
    pending = mine.filter(state=State.PENDING, due_at__lte=now).values("pk")[:MOST_COUNTED]
    in_flight = mine.filter(state=State.SENT).values("pk")[:MOST_COUNTED]
    rows = Subscription.objects.using(using).filter(active=True)
    return rows.annotate(pending=_BoundedCount(pending), in_flight=_BoundedCount(in_flight))


def _due(row: Any, now: datetime) -> int:
    """Return how many deliveries of a subscription a worker has to run now.

    A pause holds all that are not in flight yet, and an open breaker all but a due probe.
    """
    circuit = circuit_of(row)
    if row.is_held:
        waiting = 0
    elif circuit.is_open:
        waiting = min(row.pending, 1) if circuit.may_probe(now) else 0
    else:
        waiting = row.pending
    return int(row.in_flight + waiting)


def _most(row: Any) -> int:
    """Return the number of processes that can run a subscription's deliveries at one time.

    Each needs a delivery of its window, or a batch of a bulk handler.
    """
    return int(ceil(row.window_now / row.batch) if row.bulk else row.window_now)


def _demand(queue: str, handlers: Sequence[tuple[int, float, int]]) -> QueueDemand:
    """Return a queue's demand from due deliveries, mean seconds and most processes of handlers."""
    due = sum(number for number, _mean, _most in handlers)
    seconds = sum(number * mean for number, mean, _most in handlers)
    target = conf().TARGET_LAG_SECONDS
    processes = sum(min(number * mean / target, most) for number, mean, most in handlers)
    wanted = max(1, ceil(round(processes, 6))) if due else 0
    return QueueDemand(queue=queue, due=due, seconds=round(seconds, 3), workers_wanted=wanted)
