"""Reconciliation finds no difference during and after each kind of order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orders import services
from orders.models import Order
from outbox.reconciliation.examination import Reconciliation, reconcile
from outbox.testing import Outbox
from tests.bank import BankProcess
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db


def differences(done: Reconciliation) -> list[str]:
    """What differs, and which invariant says so."""
    return [f"{one.invariant.name}: {found.text}" for one in done.findings for found in one.kept]


def ship(order: Order) -> None:
    services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")


def refund(order: Order, *, units: int) -> None:
    lines = [services.WantedLine(sku="TEA", quantity=units)]
    services.request_refund(order_id=order.id, lines=lines, return_stock=True, by="staff")


@pytest.fixture
def orders(outbox: Outbox, bank: BankProcess) -> dict[str, Order]:
    """Orders of every kind, each of which goes its own way."""
    put_on_sale("TEA", units=50)
    put_on_sale("CLOCK", units=0)
    return {
        "paid": place(quantity=2),
        "declined": place(payment_method="tok_declined"),
        "declined at capture": place(payment_method="tok_declined_at_capture"),
        "out of stock": place(sku="CLOCK"),
        "cancelled at once": place(),
        "cancelled when paid": place(quantity=3),
        "refunded in part": place(quantity=4),
        "refunded before shipping": place(quantity=4),
        "received": place(),
    }


class TestReconciliation:
    def test_finds_no_difference_at_any_step_of_an_order(
        self, outbox: Outbox, bank: BankProcess, orders: dict[str, Order]
    ):
        steps: list[Callable[[], object]] = [
            lambda: services.cancel_order(order_id=orders["cancelled at once"].id, by="hanako"),
            lambda: outbox.deliver_all(only="inventory"),
            lambda: outbox.deliver_all(only="payments"),
            lambda: outbox.deliver_all(only="orders"),
            lambda: outbox.deliver_all(),
            lambda: services.cancel_order(order_id=orders["cancelled when paid"].id, by="hanako"),
            lambda: refund(orders["refunded before shipping"], units=1),
            lambda: ship(orders["refunded before shipping"]),
            lambda: ship(orders["refunded in part"]),
            lambda: ship(orders["received"]),
            lambda: outbox.deliver_all(),
            lambda: refund(orders["refunded in part"], units=3),
            lambda: services.receive_order(order_id=orders["received"].id, by="staff"),
        ]
        for step in steps:
            step()
            assert differences(reconcile()) == []
        outbox.deliver_all()

        done = reconcile(thorough=True)

        assert differences(done) == []
        assert (done.is_balanced, done.unsettled) == (True, 0)
        unseen = {one.invariant.name for one in done.findings if not one.checked}
        assert unseen == {
            "outbox.waiting_events_have_no_delivery",
            "outbox.settlements_match_their_deliveries",
            "orders.waiting_orders_have_owed_deliveries",
            "payments.unknown_outcomes_have_owed_deliveries",
        }
