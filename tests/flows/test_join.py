"""Stock and payment are confirmed concurrently: the order is confirmed once (rule 16).

Seen to fail on PostgreSQL with `select_for_update()` removed from `OrderQuerySet.locked`: each
transaction then writes its own half, sees no other, and the order waits for ever.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import transaction

from orders import services
from orders.models import Order
from outbox.testing import Outbox
from tests.flows.state import status
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place
from tests.threads import run_together, wait_until_blocked

ROUNDS = 50

pytestmark = pytest.mark.django_db(transaction=True)


def bring_both_halves(order: Order) -> None:
    run_together(
        [
            partial(services.record_stock_reserved, order_id=order.id),
            partial(services.record_payment_authorized, order_id=order.id),
        ]
    )


class TestTheJoin:
    def test_confirms_once_in_every_round(self, outbox: Outbox):
        put_on_sale(units=0)
        orders = [place() for _ in range(ROUNDS)]

        for order in orders:
            bring_both_halves(order)

        assert {status(order) for order in orders} == {"confirmed"}
        confirmed = [event.order_id for event in outbox.all_emitted("orders.OrderConfirmed")]
        assert confirmed == [order.id for order in orders]

    @pytest.mark.postgresql
    def test_confirms_if_both_begin_before_either_commits(self, outbox: Outbox):
        """A third transaction holds the row until both wait for it, so no luck is needed."""
        put_on_sale(units=0)
        order = place()

        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                Order.objects.select_for_update().get(pk=order.pk)
                halves = pool.submit(bring_both_halves, order)
                wait_until_blocked(2)
            halves.result()

        assert status(order) == "confirmed"
        assert outbox.emitted("orders.OrderConfirmed").order_id == order.id
