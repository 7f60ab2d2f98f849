"""Cancellation by the customer at each stage, in each order of handlers."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from inventory.models import Reservation
from orders import services
from orders.models import Order
from outbox import operations
from outbox.models import Delivery
from outbox.reconciliation.examination import reconcile
from outbox.testing import Outbox
from shared.money import Money
from tests.bank import BankProcess
from tests.flows.state import emails, emitted, owed, status, statuses
from tests.flows.unanswered_requests import (
    ask_to_authorize,
    ask_to_capture,
    capture_days_ago,
    intend_to_authorize_days_ago,
    intend_to_capture_days_ago,
    payment_statuses,
)
from tests.inventory.factories import counters, ledger, put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(outbox: Outbox, bank: BankProcess) -> Order:
    put_on_sale("TEA", units=5)
    return place(quantity=2)


def cancel(order: Order) -> None:
    services.cancel_order(order_id=order.id, by="hanako")


def nothing_is_left(order: Order) -> bool:
    """The order is cancelled, its goods are on the shelf, and nobody is owed anything."""
    assert status(order) == "cancelled"
    assert counters("TEA") == ledger("TEA") == (5, 0)
    return owed() == 0


class TestAnOrderCancelledAtOnce:
    @pytest.mark.parametrize("first", ["", "inventory.release_stock", "payments.void_or_refund"])
    @pytest.mark.parametrize("twice", [False, True])
    def test_takes_nothing_in_any_order_of_handlers(
        self, outbox: Outbox, bank: BankProcess, order: Order, first: str, twice: bool
    ):
        cancel(order)
        if first:
            outbox.deliver_all(only=first, twice=twice)
        outbox.deliver_all(twice=twice)

        assert nothing_is_left(order)
        assert statuses(order) == ["placed", "cancelled"]
        charges = bank.charges(order.id)
        assert charges.get("authorizations", 0) == charges.get("voids", 0)
        assert emails(order) == {"acknowledgement", "cancellation"}

    def test_causes_no_request_if_payments_handles_it_first(
        self, outbox: Outbox, bank: BankProcess, order: Order
    ):
        cancel(order)
        outbox.deliver_all(only="payments.void_or_refund")
        outbox.deliver_all()

        assert bank.charges(order.id) == {}
        assert payment_statuses(order.id) == ["forestalled"]
        assert nothing_is_left(order)


class TestAnOrderCancelledWithReservedStock:
    def test_releases_the_stock(self, outbox: Outbox, bank: BankProcess, order: Order):
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders")
        cancel(order)
        outbox.deliver_all()

        assert Reservation.objects.get().status == "released"
        assert nothing_is_left(order)

    def test_ignores_later_answers(self, outbox: Outbox, bank: BankProcess, order: Order):
        """StockReserved and PaymentAuthorized are emitted, and handled after the cancellation."""
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="payments")
        cancel(order)
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders", twice=True)
        outbox.deliver_all()

        assert bank.charges(order.id) == {"authorizations": 1, "voids": 1}
        assert "orders.OrderConfirmed" not in emitted(order)
        assert nothing_is_left(order)


class TestAnOrderCancelledDuringARequest:
    @pytest.mark.parametrize("answer_first", [False, True])
    def test_to_authorize_is_voided(
        self, outbox: Outbox, bank: BankProcess, order: Order, answer_first: bool
    ):
        ask_to_authorize(order)
        cancel(order)
        if answer_first:
            outbox.deliver_all(only="payments.authorize_payment")
        outbox.deliver_all(only="payments.void_or_refund")
        outbox.deliver_all()

        assert bank.charges(order.id) == {"authorizations": 1, "voids": 1}
        assert payment_statuses(order.id) == ["intended", "authorized", "voiding", "voided"]
        assert nothing_is_left(order)

    @pytest.mark.parametrize("answer_first", [False, True])
    def test_to_capture_is_refunded(
        self, outbox: Outbox, bank: BankProcess, order: Order, answer_first: bool
    ):
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        assert status(order) == "confirmed"
        ask_to_capture(order)
        cancel(order)
        if answer_first:
            outbox.deliver_all(only="payments.capture_payment")
            outbox.deliver_all(only="orders")
        outbox.deliver_all(only="payments.void_or_refund")
        outbox.deliver_all()

        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1, "refunds": 1}
        assert statuses(order) == ["placed", "confirmed", "cancelled"]
        assert nothing_is_left(order)

    def test_to_capture_is_refunded_although_the_bank_captured_another_amount(
        self, outbox: Outbox, bank: BankProcess, order: Order, settings: Settings
    ):
        """Failed at each attempt: the payment stayed in capturing for good."""
        settings.BANK_PROCESSING_SECONDS = 0.0
        for app in ("inventory", "payments", "orders"):
            outbox.deliver_all(only=app)
        part = Money(amount=order.total.amount - 1, currency=order.currency)
        capture_days_ago(order, amount=part)
        outbox.deliver_all(raise_errors=False)
        assert payment_statuses(order.id)[-1] == "capturing"

        cancel(order)
        outbox.deliver_all(only="payments.void_or_refund", twice=True)
        operations.retry(operations.Choice(), by="staff", rate=None)
        outbox.deliver_all(twice=True)

        assert outbox.emitted("payments.PaymentRefunded").amount == part
        assert payment_statuses(order.id)[2:] == ["capturing", "captured", "refunding", "refunded"]
        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1, "refunds": 1}
        assert nothing_is_left(order)
        assert reconcile(thorough=True).is_balanced

    def test_is_not_charged_by_a_later_retry(
        self, outbox: Outbox, bank: BankProcess, order: Order, settings: Settings
    ):
        """A dead authorization, a cancellation, and then somebody presses retry."""
        settings.BANK_API_KEY = "revoked"
        outbox.deliver_all(only="payments", raise_errors=False)
        dead = Delivery.objects.filter(subscription__handler="payments.authorize_payment")
        dead.update(state=Delivery.State.DEAD)
        settings.BANK_API_KEY = "key-for-tests"
        cancel(order)
        outbox.deliver_all()

        operations.retry(operations.Choice(handler="payments.authorize_payment"), by="staff")
        outbox.deliver_all()

        charges = bank.charges(order.id)
        assert charges.get("authorizations", 0) == charges.get("voids", 0)
        assert "captures" not in charges
        assert nothing_is_left(order)


class TestAnOrderCancelledAfterALongOutageOfTheBank:
    """The bank has no record of the request."""

    def test_is_not_authorized(self, outbox: Outbox, bank: BankProcess, order: Order):
        intend_to_authorize_days_ago(order)
        cancel(order)
        outbox.deliver_all(only="payments.void_or_refund")
        outbox.deliver_all()

        assert bank.charges(order.id) == {}
        assert payment_statuses(order.id) == ["intended", "forestalled"]
        assert nothing_is_left(order)
        assert reconcile(thorough=True).is_balanced

    def test_is_not_captured(self, outbox: Outbox, bank: BankProcess, order: Order):
        for app in ("inventory", "payments", "orders"):
            outbox.deliver_all(only=app)
        intend_to_capture_days_ago(order)
        cancel(order)
        outbox.deliver_all(only="payments.void_or_refund")
        outbox.deliver_all()

        assert bank.charges(order.id) == {"authorizations": 1, "voids": 1}
        assert payment_statuses(order.id)[2:] == ["capturing", "voiding", "voided"]
        assert nothing_is_left(order)
        assert reconcile(thorough=True).is_balanced


class TestAnOrderCancelledWhenItIsPaid:
    @pytest.mark.parametrize("twice", [False, True])
    def test_is_refunded_in_full(
        self, outbox: Outbox, bank: BankProcess, order: Order, twice: bool
    ):
        outbox.deliver_all()
        assert status(order) == "ready_to_ship"

        cancel(order)
        outbox.deliver_all(twice=twice)

        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1, "refunds": 1}
        assert outbox.emitted("payments.PaymentRefunded").amount == order.total
        assert "refund" in emails(order)
        assert nothing_is_left(order)


class TestAnOrderThatIsShipped:
    def test_cannot_be_cancelled(self, outbox: Outbox, bank: BankProcess, order: Order):
        outbox.deliver_all()
        services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")

        for _ in range(2):
            with pytest.raises(services.NotCancellable):
                cancel(order)
            outbox.deliver_all()
            if status(order) == "shipped":
                services.receive_order(order_id=order.id, by="staff")

        assert status(order) == "received"
        assert counters("TEA") == ledger("TEA") == (3, 0)
        assert "orders.OrderCancelled" not in emitted(order)


class TestPaymentAuthorized:
    def test_handled_twice_confirms_once(self, outbox: Outbox, bank: BankProcess, order: Order):
        outbox.given("payments.PaymentAuthorized", order_id=order.id, amount=order.total)

        outbox.deliver_all()

        assert statuses(order) == ["placed", "confirmed", "ready_to_ship"]
        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1}

    @pytest.mark.parametrize("apps", [("inventory", "payments"), ("payments", "inventory")])
    def test_may_be_handled_before_or_after_the_stock(
        self, outbox: Outbox, bank: BankProcess, order: Order, apps: tuple[str, str]
    ):
        for app in apps:
            outbox.deliver_all(only=app)
            outbox.deliver_all(only="orders")
        outbox.deliver_all()

        assert statuses(order) == ["placed", "confirmed", "ready_to_ship"]

    def test_handled_after_shipping_changes_nothing(
        self, outbox: Outbox, bank: BankProcess, order: Order
    ):
        outbox.deliver_all()
        services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")
        outbox.given("payments.PaymentAuthorized", order_id=order.id, amount=order.total)
        outbox.given("payments.PaymentCaptured", order_id=order.id, amount=order.total)

        outbox.deliver_all(only="orders")

        assert status(order) == "shipped"
