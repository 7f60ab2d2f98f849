"""Wait until the demo's database meets a condition, and read its state."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import F, QuerySet

from orders.models import Order
from outbox.models import Delivery, Event
from outbox.monitor.diagnosis import why, why_event
from shop.demo.customers import PlacedOrder

CEILING = 240.0  # seconds; reached only after a failure
TICK = 0.02
MOST_EXPLAINED = 10

State = Delivery.State
#: States that only staff can change.
STUCK = {State.DEAD, State.PARKED}
#: Final states of the demo's orders.
FINAL = {Order.Status.READY_TO_SHIP, Order.Status.SHIPPED, Order.Status.CANCELLED}


class ConditionTimeout(Exception):
    """A condition did not become true in time; the text names it."""


class Interrupted(Exception):
    """The demo ended during a wait."""


class Waiter:
    """Waits for conditions of the database, until it is stopped."""

    def __init__(self, *, ceiling: float = CEILING) -> None:
        self._ceiling = ceiling
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make all waits raise Interrupted."""
        self._stopping.set()

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Interrupted: the demo ends.
        """
        if self._stopping.wait(seconds):
            raise Interrupted

    def until(self, condition: Callable[[], object], what: str, *, every: float = TICK) -> None:
        """Wait until the condition holds; check it again every so many seconds.

        Raises:
            ConditionTimeout: it did not hold within the ceiling.
            Interrupted: the demo ends.
        """
        deadline = time.monotonic() + self._ceiling
        while not condition():
            if time.monotonic() > deadline:
                raise ConditionTimeout(f"Timed out after {self._ceiling:g} s: {what}.")
            self.pause(every)

    def until_settled(
        self,
        orders: Sequence[PlacedOrder],
        *,
        has_unsent_webhooks: Callable[[], object],
        report: Callable[[str], object],
    ) -> None:
        """Wait until nothing is owed and each order is final.

        Print outstanding deliveries meanwhile. The wait also ends if all owed deliveries wait
        for staff, or at the ceiling.
        """

        def is_over() -> bool:
            if is_stuck():
                return True
            # In this order: an event that arrives during the checks is then among the owed ones.
            return is_settled(orders) and not has_unsent_webhooks() and not unsettled()

        deadline, report_at = time.monotonic() + self._ceiling, time.monotonic() + 3
        while not (is_over() or time.monotonic() > deadline):
            if time.monotonic() > report_at and owed():
                report(f"Still owed: {listed(owed())}.")
                report_at = time.monotonic() + 5
            self.pause(TICK)


def is_settled(orders: Sequence[PlacedOrder]) -> bool:
    """Return whether nothing is owed, and each order is ready to ship, shipped or cancelled."""
    ids = [order.id for order in orders]
    resting = Order.objects.filter(pk__in=ids, status__in=FINAL).count()
    return resting == len(ids) and unsettled() == 0


def is_stuck() -> bool:
    """Return whether all owed deliveries wait for staff."""
    states = set(_owed().values_list("state", flat=True).distinct())
    return bool(states) and states <= STUCK and not _waiting_events().exists()


def unsettled() -> int:
    """Count the owed deliveries, and the events that wait for fan-out."""
    return _waiting_events().count() + _owed().count()


def owed() -> Counter[str]:
    """Count the owed deliveries by handler, and the events that wait for the relay."""
    count = Counter(_owed().values_list("subscription__handler", flat=True))
    waiting = _waiting_events().count()
    return count + Counter({"the relay": waiting})


def in_flight() -> int:
    """Count the deliveries that are with the broker or a worker."""
    return Delivery.objects.filter(state=State.SENT).count()


def running_delivery(*, since: datetime, queue: str = "") -> Delivery | None:
    """Return a delivery that a worker started after `since` and has not finished."""
    started = Delivery.objects.filter(
        state=State.SENT, started_token=F("token"), started_at__gte=since
    )
    if queue:
        started = started.filter(subscription__queue=queue)
    return started.select_related("event", "subscription").order_by("-started_at").first()


def is_bank_request_started(order_id: UUID) -> bool:
    """Return whether the bank was asked about an order, or is being asked."""
    asking = Delivery.objects.filter(
        event__key=str(order_id), subscription__handler="payments.authorize_payment"
    )
    return asking.filter(attempts__gt=0).exists()


def explanations() -> list[str]:
    """Explain each owed delivery and event, as `manage.py outbox why` does."""
    rows = _owed().select_related("subscription", "event").order_by("id")[:MOST_EXPLAINED]
    deliveries = [
        f"{row.event.name} to {row.subscription.handler} ({row.pk}): {why(row)}" for row in rows
    ]
    waiting = _waiting_events().order_by("seq")[:MOST_EXPLAINED]
    return deliveries + [f"{event.name} ({event.id}): {why_event(event)}" for event in waiting]


def listed(count: Counter[str]) -> str:
    """Return "2 payments.authorize_payment, 1 the relay"."""
    return ", ".join(f"{number} {name}" for name, number in sorted(count.items()))


def _owed() -> QuerySet[Delivery]:
    return Delivery.objects.filter(state__in=Delivery.OWED)


def _waiting_events() -> QuerySet[Event]:
    return Event.objects.filter(fanned_out_at=None)
