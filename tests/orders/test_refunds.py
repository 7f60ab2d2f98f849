from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.test import Client

from orders import services
from orders.models import Order, RefundRequest
from outbox.testing import Outbox
from shared.money import CurrencyMismatch, Money
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer
from tests.threads import run_together

pytestmark = pytest.mark.django_db


def yen(amount: int) -> Money:
    return Money(amount=amount, currency="JPY")


def lines(**quantities: int) -> list[services.WantedLine]:
    return [services.WantedLine(sku=sku, quantity=count) for sku, count in quantities.items()]


def refund(order: Order, **wanted: Any) -> RefundRequest:
    wanted = {"return_stock": False, "by": "staff", **wanted}
    return services.request_refund(order_id=order.id, **wanted)


def confirm_order() -> Order:
    put_on_sale("TEA", price=500)
    put_on_sale("CUP", price=1200)
    order = services.place_order(
        customer=customer(),
        lines=lines(TEA=2, CUP=1),
        payment_method="tok_success",
        email="hanako@example.com",
        language="en",
    )
    services.record_stock_reserved(order_id=order.id)
    services.record_payment_authorized(order_id=order.id)
    return order


def pay_order() -> Order:
    order = confirm_order()
    services.release_for_shipping(order_id=order.id)
    return order


@pytest.fixture
def paid(outbox: Outbox) -> Order:
    return pay_order()


class TestRequestRefund:
    def test_tells_amount_and_goods(self, outbox: Outbox, paid: Order):
        asked = refund(paid, lines=lines(TEA=1, CUP=1), return_stock=True)

        assert outbox.emitted("orders.RefundRequested").model_dump() == {
            "order_id": paid.id,
            "refund_id": asked.id,
            "amount": {"amount": 1700, "currency": "JPY"},
            "returned": [{"sku": "TEA", "quantity": 1}, {"sku": "CUP", "quantity": 1}],
        }

    def test_tells_no_goods_that_do_not_come_back(self, outbox: Outbox, paid: Order):
        refund(paid, lines=lines(TEA=1))

        assert outbox.emitted("orders.RefundRequested").returned == []

    def test_remembers_who_asked_for_what(self, outbox: Outbox, paid: Order):
        asked = refund(paid, lines=lines(TEA=2), amount=yen(700))

        assert (asked.requested_by, asked.total) == ("staff", yen(700))
        assert [(one.line.sku, one.quantity) for one in asked.lines.all()] == [("TEA", 2)]

    def test_takes_what_is_left_if_nothing_is_named(self, outbox: Outbox, paid: Order):
        refund(paid, lines=lines(TEA=1))
        rest = refund(paid, return_stock=True)

        assert rest.total == yen(1700)
        assert [(one.line.sku, one.quantity) for one in rest.lines.all()] == [
            ("TEA", 1),
            ("CUP", 1),
        ]

    def test_may_follow_shipping_and_receiving(self, outbox: Outbox, paid: Order):
        services.ship_order(order_id=paid.id, carrier="A", tracking_number="1", by="staff")
        refund(paid, amount=yen(100))
        services.receive_order(order_id=paid.id, by="staff")
        refund(paid, amount=yen(100))

        assert paid.refunds.count() == 2

    @pytest.mark.parametrize("cancelled", [False, True])
    def test_refuses_an_order_that_is_not_paid_or_is_cancelled(
        self, outbox: Outbox, cancelled: bool
    ):
        order = confirm_order()
        if cancelled:
            services.release_for_shipping(order_id=order.id)
            services.cancel_order(order_id=order.id, by="hanako")

        with pytest.raises(services.NotRefundable):
            refund(order, amount=yen(1))

    @pytest.mark.parametrize(
        "wanted",
        [
            {"amount": yen(2201)},
            {"lines": lines(TEA=3)},
            {"lines": [*lines(TEA=1), *lines(TEA=2)]},
        ],
        ids=["money", "units", "units in two lines"],
    )
    def test_refuses_more_than_was_sold(self, outbox: Outbox, paid: Order, wanted: dict[str, Any]):
        with pytest.raises(services.RefundTooLarge):
            refund(paid, **wanted)

        assert not RefundRequest.objects.exists()
        assert outbox.all_emitted("orders.RefundRequested") == []

    def test_counts_what_was_asked_before(self, outbox: Outbox, paid: Order):
        refund(paid, amount=yen(2000))

        with pytest.raises(services.RefundTooLarge):
            refund(paid, amount=yen(201))
        with pytest.raises(services.RefundTooLarge):
            refund(paid, lines=lines(CUP=1))
        assert refund(paid, amount=yen(200))

    @pytest.mark.parametrize(
        "wanted",
        [
            {"amount": yen(0)},
            {"amount": yen(-5)},
            {"lines": lines(TEA=0)},
            {"lines": lines(GONE=1)},
            {"amount": yen(5), "return_stock": True},
        ],
        ids=["zero", "negative", "no units", "not in the order", "no goods named"],
    )
    def test_refuses_nothing_at_all(self, outbox: Outbox, paid: Order, wanted: dict[str, Any]):
        with pytest.raises(services.NothingToRefund):
            refund(paid, **wanted)

    def test_refuses_when_all_is_refunded(self, outbox: Outbox, paid: Order):
        refund(paid)

        with pytest.raises(services.NothingToRefund):
            refund(paid)

    def test_refuses_another_currency(self, outbox: Outbox, paid: Order):
        with pytest.raises(CurrencyMismatch):
            refund(paid, amount=Money(amount=1, currency="USD"))


@pytest.mark.django_db(transaction=True)
class TestTwoClerksAtOnce:
    def test_give_the_money_back_once(self, outbox: Outbox):
        """Rule 16. Seen to give it back more often on PostgreSQL without the lock."""
        for _ in range(5):
            order = pay_order()
            refused: list[Exception] = []

            run_together([partial(try_to_refund, order, refused)] * 4)

            assert order.refunds.get().total == yen(2200)
            assert len(refused) == 3


def try_to_refund(order: Order, refused: list[Exception]) -> None:
    try:
        refund(order)
    except services.NotRefundable as refusal:
        refused.append(refusal)


class TestAnOrderWhoseUnitsWentBackToStock:
    def test_cannot_be_shipped(self, outbox: Outbox, paid: Order):
        refund(paid, lines=lines(TEA=2), return_stock=True)
        refund(paid, lines=lines(CUP=1), return_stock=True)

        with pytest.raises(services.NothingToShip):
            services.ship_order(order_id=paid.id, carrier="A", tracking_number="1", by="staff")

        assert outbox.all_emitted("orders.OrderShipped") == []

    def test_has_the_reason_in_the_admin(self, paid: Order, admin_client: Client):
        refund(paid, return_stock=True)
        form = {"action": "mark_as_shipped", "_selected_action": [str(paid.pk)], "carrier": "A"}

        page = admin_client.post("/admin/orders/order/", form, follow=True).content.decode()

        assert "All units of the order went back to stock. Cancel the order." in page

    def test_is_refused_for_its_status_once_it_is_cancelled(self, paid: Order):
        refund(paid, return_stock=True)
        services.cancel_order(order_id=paid.id, by="staff")

        with pytest.raises(Order.InvalidTransition, match="cannot change from cancelled"):
            services.ship_order(order_id=paid.id, carrier="A", tracking_number="1", by="staff")

    def test_can_be_shipped_in_part(self, outbox: Outbox, paid: Order):
        refund(paid, lines=lines(TEA=2), return_stock=True)

        services.ship_order(order_id=paid.id, carrier="A", tracking_number="1", by="staff")

        assert outbox.emitted("orders.OrderShipped").order_id == paid.id

    def test_can_be_shipped_if_the_goods_were_not_returned(self, outbox: Outbox, paid: Order):
        refund(paid, lines=lines(TEA=2, CUP=1), return_stock=False)

        services.ship_order(order_id=paid.id, carrier="A", tracking_number="1", by="staff")

        assert outbox.emitted("orders.OrderShipped").order_id == paid.id
