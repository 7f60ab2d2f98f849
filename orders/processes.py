"""Orders under way: the reason of each wait, its duration and the time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F
from django.utils import timezone

from orders.models import Order

SHOWN = 20
COUNTED = 1000

UNDER_WAY = {
    Order.Awaits.STOCK: Order.Status.PLACED,
    Order.Awaits.PAYMENT: Order.Status.PLACED,
    Order.Awaits.CAPTURE: Order.Status.CONFIRMED,
    Order.Awaits.SHIPPING: Order.Status.READY_TO_SHIP,
}


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An order that waits."""

    order: Order
    now: datetime

    @property
    def since(self) -> timedelta:
        """Time since the order last changed."""
        return self.now - self.order.changed_at

    @property
    def left(self) -> timedelta | None:
        """Time until the deadline; None without a deadline, or after it."""
        if self.order.deadline_at is None or self.order.is_overdue:
            return None
        return self.order.deadline_at - self.now


@dataclass(frozen=True, kw_only=True)
class Step:
    """The orders that wait for one thing; those with the earliest deadline come first.

    The count stops at a thousand; `is_cut` is true if there are more.
    """

    awaits: Order.Awaits
    number: int
    is_cut: bool
    waiting: Sequence[Waiting]


def steps() -> list[Step]:
    """Return a step for each thing that orders wait for. Finished orders are not read."""
    return [_step(awaits, status) for awaits, status in UNDER_WAY.items()]


def _step(awaits: Order.Awaits, status: Order.Status) -> Step:
    orders = Order.objects.filter(status=status, awaits=awaits)
    number = orders.order_by()[: COUNTED + 1].count()
    first = orders.order_by(F("deadline_at").asc(nulls_last=True), "id")[:SHOWN]
    now = timezone.now()
    return Step(
        awaits=awaits,
        number=min(number, COUNTED),
        is_cut=number > COUNTED,
        waiting=[Waiting(order=order, now=now) for order in first],
    )
