"""Handlers of orders and the events that they emit; each delivery runs twice."""

from __future__ import annotations

import pytest

from orders.models import Order
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db
TOTAL = {"amount": 500, "currency": "JPY"}


@pytest.fixture
def order() -> Order:
    put_on_sale(price=500)
    return place()


class TestOrders:
    def test_confirms_after_stock_and_payment(self, outbox: Outbox, order: Order):
        outbox.given("inventory.StockReserved", order_id=order.id)
        outbox.given("payments.PaymentAuthorized", order_id=order.id, amount=TOTAL)

        outbox.deliver_all(only="orders", twice=True)

        assert outbox.emitted("orders.OrderConfirmed").order_id == order.id

    def test_releases_a_paid_order_for_shipping(self, outbox: Outbox, order: Order):
        outbox.given("inventory.StockReserved", order_id=order.id)
        outbox.given("payments.PaymentAuthorized", order_id=order.id, amount=TOTAL)
        outbox.deliver_all(only="orders")
        outbox.given("payments.PaymentCaptured", order_id=order.id, amount=TOTAL)

        outbox.deliver_all(only="orders", twice=True)

        assert outbox.emitted("orders.OrderReadyToShip").order_id == order.id

    def test_cancels_an_order_out_of_stock(self, outbox: Outbox, order: Order):
        missing = [{"sku": "TEA", "wanted": 1, "available": 0}]
        outbox.given("inventory.StockUnavailable", order_id=order.id, missing=missing)

        outbox.deliver_all(only="orders", twice=True)

        assert outbox.emitted("orders.OrderCancelled").reason == "out_of_stock"

    def test_cancels_an_order_with_a_declined_payment(self, outbox: Outbox, order: Order):
        outbox.given("payments.PaymentDeclined", order_id=order.id, reason="insufficient_funds")

        outbox.deliver_all(only="orders", twice=True)

        assert outbox.emitted("orders.OrderCancelled").reason == "payment_declined"

    def test_cancels_once_when_both_refuse(self, outbox: Outbox, order: Order):
        outbox.given("payments.PaymentDeclined", order_id=order.id, reason="insufficient_funds")
        outbox.given("inventory.StockUnavailable", order_id=order.id, missing=[])

        outbox.deliver_all(only="orders", twice=True)

        assert outbox.emitted("orders.OrderCancelled").order_id == order.id
