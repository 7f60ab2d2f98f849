"""Handlers of inventory and the events that they emit; each delivery runs twice."""

from __future__ import annotations

from uuid import uuid4

import pytest

from inventory import services
from outbox.testing import Outbox
from tests.inventory.factories import counters, ledger, put_on_sale

pytestmark = pytest.mark.django_db
ORDER = uuid4()


def given_an_order(outbox: Outbox, *, quantity: int) -> None:
    outbox.given(
        "orders.OrderPlaced",
        order_id=ORDER,
        lines=[{"sku": "TEA", "quantity": quantity}],
        total={"amount": 500 * quantity, "currency": "JPY"},
        payment_method="tok_success",
    )


class TestInventory:
    def test_reserves_for_a_placed_order(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        given_an_order(outbox, quantity=3)

        outbox.deliver_all(only="inventory", twice=True)

        assert counters("TEA") == (5, 3)
        assert outbox.emitted("inventory.StockReserved").order_id == ORDER

    def test_emits_the_missing_units(self, outbox: Outbox):
        put_on_sale("TEA", units=2)
        given_an_order(outbox, quantity=3)

        outbox.deliver_all(only="inventory", twice=True)

        assert counters("TEA") == (2, 0)
        assert outbox.emitted("inventory.StockUnavailable").missing[0].sku == "TEA"

    def test_releases_for_a_cancelled_order(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        given_an_order(outbox, quantity=3)
        outbox.deliver_all(only="inventory")
        outbox.given("orders.OrderCancelled", order_id=ORDER, reason="payment_declined")

        outbox.deliver_all(only="inventory", twice=True)

        assert counters("TEA") == (5, 0)
        assert outbox.emitted("inventory.StockReleased").order_id == ORDER

    def test_issues_for_a_shipped_order(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        given_an_order(outbox, quantity=3)
        outbox.deliver_all(only="inventory")
        outbox.given("orders.OrderShipped", order_id=ORDER, carrier="", tracking_number="")

        outbox.deliver_all(only="inventory", twice=True)

        assert counters("TEA") == (2, 0)
        assert outbox.emitted("inventory.StockIssued").order_id == ORDER

    def test_returns_refunded_units(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        given_an_order(outbox, quantity=3)
        outbox.deliver_all(only="inventory")
        outbox.given("orders.OrderShipped", order_id=ORDER, carrier="", tracking_number="")
        given_a_refund(outbox, quantity=2)

        outbox.deliver_all(only="inventory", twice=True)

        assert counters("TEA") == ledger("TEA") == (4, 0)
        assert outbox.emitted("inventory.StockReturned").lines[0].quantity == 2

    def test_emits_nothing_for_a_refund_without_units(self, outbox: Outbox):
        outbox.given(
            "orders.RefundRequested",
            order_id=ORDER,
            refund_id=uuid4(),
            amount={"amount": 500, "currency": "JPY"},
            returned=[],
        )

        outbox.deliver_all(only="inventory")

        assert outbox.all_emitted() == []

    def test_refuses_to_return_more_than_was_reserved(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        given_an_order(outbox, quantity=3)
        outbox.deliver_all(only="inventory")
        given_a_refund(outbox, quantity=2)
        given_a_refund(outbox, quantity=2)

        with pytest.raises(services.CounterMismatch):
            outbox.deliver_all(only="inventory")

        assert counters("TEA") == ledger("TEA") == (5, 1)


def given_a_refund(outbox: Outbox, *, quantity: int) -> None:
    outbox.given(
        "orders.RefundRequested",
        order_id=ORDER,
        refund_id=uuid4(),
        amount={"amount": 500 * quantity, "currency": "JPY"},
        returned=[{"sku": "TEA", "quantity": quantity}],
    )
