"""Reconciliation finds no difference while orders are placed, paid, cancelled and refunded."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event as Flag

import pytest
from django.db import connection

from orders import services
from orders.models import Order
from outbox.models import Delivery
from outbox.reconciliation.examination import reconcile
from outbox.testing import Outbox
from payments import gateway
from tests.bank import BankProcess
from tests.flows.state import status
from tests.flows.test_reconciliation import differences
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place
from tests.threads import PATIENCE, run_together

pytestmark = pytest.mark.django_db(transaction=True)

METHODS = ["tok_success", "tok_success", "tok_declined"]
UNDER_WAY = [Delivery.State.PENDING, Delivery.State.SENT]


@pytest.fixture
def outbox(transactional_db: None) -> Outbox:
    return Outbox()


def make_traffic(is_over: Flag) -> None:
    """Place orders, and cancel or refund some of them a little later."""
    orders: list[Order] = []
    while not is_over.is_set():
        orders.append(place(quantity=2, payment_method=METHODS[len(orders) % len(METHODS)]))
        time.sleep(0.1)
        earlier = orders[len(orders) // 2]
        if len(orders) % 3 == 0:
            services.cancel_order(order_id=earlier.id, by="hanako")
        elif status(earlier) == "ready_to_ship" and not earlier.refunds.exists():
            services.request_refund(order_id=earlier.id, return_stock=True, by="staff")


def deliver_until_quiet(is_over: Flag) -> None:
    while not is_over.is_set():
        deliver_a_little()
    until = time.monotonic() + 3 * PATIENCE  # the traffic takes its time on a busy machine
    while Delivery.objects.filter(state__in=UNDER_WAY).exists():
        assert time.monotonic() < until, "Something is owed for ever."
        deliver_a_little()


def deliver_a_little() -> None:
    Outbox().deliver_all(raise_errors=False)
    time.sleep(0.01)


@pytest.mark.postgresql
@pytest.mark.timeout(900)
class TestReconciliationUnderTraffic:
    def test_finds_no_difference_at_any_time(self, outbox: Outbox, bank: BankProcess):
        """Seen to fail without the second look at a payment whose bank says otherwise."""
        put_on_sale("TEA", units=1000)
        customer()
        is_over = Flag()
        looks: list[list[str]] = []

        def look_five_times() -> None:
            try:
                looks.extend(differences(reconcile()) for _ in range(5))
            finally:
                is_over.set()

        workers: list[Callable[[], object]] = [lambda: deliver_until_quiet(is_over)] * 2
        run_together([lambda: make_traffic(is_over), look_five_times, *workers])
        outbox.deliver_all(raise_errors=False)  # what the traffic emitted last
        deliver_until_quiet(is_over)

        assert looks == [[]] * 5
        done = reconcile(thorough=True)
        assert (differences(done), done.unsettled) == ([], 0)


class TestTheBank:
    def test_is_queried_without_a_transaction(
        self, outbox: Outbox, bank: BankProcess, monkeypatch: pytest.MonkeyPatch
    ):
        put_on_sale("TEA")
        place()
        outbox.deliver_all()
        real, open_then = gateway.current(), []

        class Spy:
            processing_time = real.processing_time

            def find(self, *, reference: str) -> gateway.BankRecord | None:
                open_then.append(connection.in_atomic_block)
                return real.find(reference=reference)

        monkeypatch.setattr(gateway, "current", Spy)

        assert reconcile().is_balanced
        assert open_then == [False]

    def test_is_ignored_if_the_payment_changed_during_the_query(
        self, outbox: Outbox, bank: BankProcess, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail without the second look at the payment."""
        put_on_sale("TEA")
        order = place()
        outbox.deliver_all(only="payments.authorize_payment")
        real = gateway.current()

        class Spy:
            processing_time = real.processing_time

            def find(self, *, reference: str) -> gateway.BankRecord | None:
                monkeypatch.setattr(gateway, "current", lambda: real)
                services.cancel_order(order_id=order.id, by="hanako")
                outbox.deliver_all()
                return real.find(reference=reference)

        monkeypatch.setattr(gateway, "current", Spy)

        assert differences(reconcile()) == []
