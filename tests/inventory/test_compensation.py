from __future__ import annotations

import pytest
from uuid_utils.compat import uuid7

from inventory import services
from inventory.models import Stock
from outbox import operations
from outbox.models import Delivery
from outbox.testing import Outbox
from tests.inventory.factories import counters, line, put_on_sale

pytestmark = pytest.mark.django_db


class TestReleaseStock:
    def test_is_retried_without_limit(self, outbox: Outbox):
        """Rule 9. Seen to end as dead without `attempts=None`."""
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 2)])
        Stock.objects.update(reserved=0)  # somebody's error, to be found and mended
        outbox.given("orders.OrderCancelled", order_id=order_id, reason="out_of_stock")
        outbox.deliver_all(only="inventory", raise_errors=False)
        owed = Delivery.objects.filter(subscription__handler="inventory.release_stock")
        owed.update(attempts=1000)
        operations.retry(operations.Choice(handler="inventory.release_stock"), by="ann")

        outbox.deliver_all(only="inventory", raise_errors=False)

        assert owed.get().state == "pending"
        Stock.objects.update(reserved=2)
        operations.retry(operations.Choice(handler="inventory.release_stock"), by="ann")
        outbox.deliver_all(only="inventory")
        assert counters("TEA") == (5, 0)
