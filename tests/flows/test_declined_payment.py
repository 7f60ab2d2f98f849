"""The bank declines: the order is cancelled, and its stock is released."""

from __future__ import annotations

import pytest

from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.flows.state import emails, owed, statuses
from tests.inventory.factories import counters, ledger, put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db


class TestAnOrderWhosePaymentIsDeclined:
    @pytest.mark.parametrize("twice", [False, True])
    def test_is_cancelled_and_its_stock_released(
        self, outbox: Outbox, bank: BankProcess, twice: bool
    ):
        put_on_sale("TEA", units=5)

        order = place(quantity=2, payment_method="tok_declined")
        outbox.deliver_all(twice=twice)

        assert statuses(order) == ["placed", "cancelled"]
        assert outbox.emitted("orders.OrderCancelled").reason == "payment_declined"
        assert counters("TEA") == ledger("TEA") == (5, 0)
        assert bank.charges(order.id) == {"declines": 1}
        assert emails(order) == {"acknowledgement", "cancellation"}
        assert owed() == 0


class TestAnOrderWhosePaymentIsDeclinedAtCapture:
    @pytest.mark.parametrize("twice", [False, True])
    def test_is_cancelled_and_its_stock_released(
        self, outbox: Outbox, bank: BankProcess, twice: bool
    ):
        put_on_sale("TEA", units=5)

        order = place(quantity=2, payment_method="tok_declined_at_capture")
        outbox.deliver_all(twice=twice)

        assert statuses(order) == ["placed", "confirmed", "cancelled"]
        assert outbox.emitted("orders.OrderCancelled").reason == "payment_declined"
        assert counters("TEA") == ledger("TEA") == (5, 0)
        assert bank.charges(order.id) == {"declines": 1}
        assert emails(order) == {"acknowledgement", "cancellation"}
        assert owed() == 0


class TestAnOrderThatBothRefuse:
    def test_is_cancelled_once_for_the_first_reason(self, outbox: Outbox, bank: BankProcess):
        put_on_sale("TEA", units=1)

        order = place(quantity=2, payment_method="tok_declined")
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        outbox.deliver_all()

        assert statuses(order) == ["placed", "cancelled"]
        assert outbox.emitted("orders.OrderCancelled").reason == "payment_declined"
        assert owed() == 0
