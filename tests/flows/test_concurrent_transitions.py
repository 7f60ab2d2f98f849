"""Concurrent transitions of one order exclude each other (rule 16).

Seen to fail on PostgreSQL with `select_for_update()` removed from `OrderQuerySet.locked`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from orders import services
from orders.models import Order
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.flows.state import emitted, statuses
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place
from tests.threads import run_together

ROUNDS = 10

pytestmark = pytest.mark.django_db(transaction=True)


def pay(order: Order) -> None:
    services.record_stock_reserved(order_id=order.id)
    services.record_payment_authorized(order_id=order.id)
    services.release_for_shipping(order_id=order.id)


def cancel(order: Order) -> None:
    with suppress(services.NotCancellable):
        services.cancel_order(order_id=order.id, by="hanako")


def ship(order: Order) -> None:
    with suppress(Order.InvalidTransition):
        services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")


class TestACancellation:
    def test_and_shipping_exclude_each_other(self, outbox: Outbox):
        put_on_sale(units=0)
        for _ in range(ROUNDS):
            order = place()
            pay(order)

            run_together([partial(cancel, order), partial(ship, order)])

            assert statuses(order)[3:] in (["cancelled"], ["shipped"])
            assert emitted(order)[-1] in {"orders.OrderCancelled", "orders.OrderShipped"}
            assert len(emitted(order)) == 4

    def test_requested_four_times_is_emitted_once(self, outbox: Outbox):
        put_on_sale(units=0)
        for _ in range(ROUNDS):
            order = place()

            run_together([partial(cancel, order)] * 4)

            assert emitted(order) == ["orders.OrderPlaced", "orders.OrderCancelled"]


class TestTheSweep:
    def test_and_the_awaited_answer_exclude_each_other(self, outbox: Outbox):
        put_on_sale(units=0)
        for _ in range(ROUNDS):
            order = place()
            services.record_stock_reserved(order_id=order.id)
            overdue(order)

            run_together(
                [
                    services.cancel_overdue,
                    services.cancel_overdue,
                    partial(services.record_payment_authorized, order_id=order.id),
                ]
            )

            assert statuses(order)[1:] in (["cancelled"], ["confirmed"])
            assert len(emitted(order)) == 2


def overdue(order: Order) -> None:
    """Its time is over, and nobody has anything to do about it."""
    Event.objects.update(fanned_out_at=timezone.now())
    Delivery.objects.update(state=Delivery.State.DONE)
    before = timezone.now() - timedelta(minutes=1)
    Order.objects.filter(pk=order.pk).update(deadline_at=before)
