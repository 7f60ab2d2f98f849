"""A cancellation that is handled before the events that it reverses (rule 17)."""

from __future__ import annotations

import pytest

from inventory.models import Reservation
from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.state import owed, status
from tests.inventory.factories import counters, put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db


class TestACancellationThatIsHandledFirst:
    def test_prevents_the_late_reservation(self, outbox: Outbox, bank: BankProcess):
        """Seen to fail with the move to FORESTALLED removed from `release_stock`."""
        put_on_sale("TEA", units=5)
        order = place(quantity=2, payment_method="tok_declined")
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        outbox.deliver_all(only="inventory.release_stock")
        assert Reservation.objects.get().status == "forestalled"

        outbox.deliver_all()

        assert counters("TEA") == (5, 0)
        assert outbox.all_emitted("inventory.StockReserved") == []
        assert status(order) == "cancelled"
        assert owed() == 0

    def test_prevents_the_late_authorization(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=1)
        order = place(quantity=2)
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders")
        outbox.deliver_all(only="payments.void_or_refund")

        outbox.deliver_all()

        assert bank.charges(order.id) == {}
        assert status(order) == "cancelled"
        assert owed() == 0


class TestAnAnswerAfterTheCancellation:
    def test_is_reversed(self, outbox: Outbox, bank: BankProcess):
        """Stock was reserved in time, but orders handles the event after the cancellation."""
        put_on_sale("TEA", units=5)
        order = place(quantity=2, payment_method="tok_declined")
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders.cancel_for_declined_payment")
        outbox.deliver_all(only="inventory")

        outbox.deliver_all(only="orders.record_stock_reserved", twice=True)
        outbox.deliver_all()

        assert status(order) == "cancelled"
        assert counters("TEA") == (5, 0)
        assert owed() == 0
