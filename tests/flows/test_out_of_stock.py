"""Too little stock: the order is cancelled, and its payment is voided."""

from __future__ import annotations

import pytest

from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.state import emails, owed, status, statuses
from tests.inventory.factories import counters, put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db


class TestAnOrderOutOfStock:
    @pytest.mark.parametrize("twice", [False, True])
    def test_is_cancelled_and_its_payment_voided(
        self, outbox: Outbox, bank: BankProcess, twice: bool
    ):
        put_on_sale("TEA", units=1)

        order = place(quantity=2)
        outbox.deliver_all(twice=twice)

        assert statuses(order) == ["placed", "cancelled"]
        assert outbox.emitted("orders.OrderCancelled").reason == "out_of_stock"
        assert counters("TEA") == (1, 0)
        assert bank.charges(order.id) == {"authorizations": 1, "voids": 1}
        assert emails(order) == {"acknowledgement", "cancellation"}
        assert owed() == 0

    def test_leaves_the_units_for_the_next_order(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=1)

        greedy, modest = place(quantity=2), place(quantity=1)
        outbox.deliver_all()

        assert (status(greedy), status(modest)) == ("cancelled", "ready_to_ship")
        assert counters("TEA") == (1, 1)
