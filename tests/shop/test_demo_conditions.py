"""When the demo counts its orders as settled or stuck, and a delivery as running."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from orders.models import Order
from outbox.models import Delivery
from outbox.relay.passes import relay
from outbox.testing import Outbox
from shop.demo import conditions
from shop.demo.conditions import ConditionTimeout, Interrupted, Waiter
from shop.demo.customers import PlacedOrder
from shop.demo.scenarios import OrderSpec

pytestmark = pytest.mark.django_db

State = Delivery.State


def stored(status: str) -> PlacedOrder:
    """An order in this status, as the demo remembers it."""
    customer, _ = User.objects.get_or_create(username="alice")
    order = Order.objects.create(
        customer=customer,
        total_amount=1,
        currency="JPY",
        status=status,
        cancel_reason="requested" if status == "cancelled" else "",
    )
    spec = OrderSpec(customer="alice", lines={"TEA-SENCHA": 1})
    return PlacedOrder(spec=spec, id=order.id, reference=order.reference, seconds=0, tries=1)


def owe(outbox: Outbox, state: str, **fields: object) -> Delivery:
    """A delivery of StockReserved to orders.record_stock_reserved, in this state."""
    outbox.given("inventory.StockReserved", order_id=stored("ready_to_ship").id)
    outbox.deliver_all()
    row = Delivery.objects.latest("pk")
    Delivery.objects.filter(pk=row.pk).update(state=state, **fields)
    return row


class TestSettled:
    def test_is_true_for_final_orders_without_owed_deliveries(self):
        assert conditions.is_settled([stored("ready_to_ship"), stored("cancelled")])

    @pytest.mark.parametrize("status", ["placed", "confirmed"])
    def test_is_false_for_an_open_order(self, status: str):
        assert not conditions.is_settled([stored("ready_to_ship"), stored(status)])

    @pytest.mark.parametrize("state", Delivery.OWED)
    def test_is_false_while_a_delivery_is_owed(self, outbox: Outbox, state: str):
        owe(outbox, state)

        assert not conditions.is_settled([])
        assert conditions.unsettled() == 1

    def test_is_false_while_an_event_waits_for_the_relay(self, outbox: Outbox):
        outbox.given("orders.OrderReadyToShip", order_id=uuid4())

        assert not conditions.is_settled([])
        assert dict(conditions.owed()) == {"the relay": 1}


class TestStuck:
    @pytest.mark.parametrize(
        ("state", "is_stuck"), [("dead", True), ("parked", True), ("pending", False)]
    )
    def test_is_true_if_all_owed_deliveries_wait_for_staff(
        self, outbox: Outbox, state: str, is_stuck: bool
    ):
        owe(outbox, state)

        assert conditions.is_stuck() == is_stuck

    def test_is_false_without_owed_deliveries(self):
        assert not conditions.is_stuck()

    def test_is_explained_as_outbox_why_does(self, outbox: Outbox):
        row = owe(outbox, State.DEAD, note="RuntimeError: no")

        (line,) = conditions.explanations()

        assert line.startswith(
            f"inventory.StockReserved to orders.record_stock_reserved ({row.pk}): Dead"
        )


class TestRunningDelivery:
    def test_is_one_that_was_started_under_its_current_token(self, outbox: Outbox):
        now = timezone.now()
        row = owe(outbox, State.SENT, token=2, started_token=2, started_at=now)

        assert conditions.running_delivery(since=now) == row
        assert conditions.running_delivery(since=now, queue="orders") == row

    def test_is_not_one_of_another_queue(self, outbox: Outbox):
        owe(outbox, State.SENT, token=2, started_token=2, started_at=timezone.now())

        assert (
            conditions.running_delivery(
                since=timezone.now() - timedelta(hours=1), queue="inventory"
            )
            is None
        )

    def test_is_not_one_that_waits_in_the_broker(self, outbox: Outbox):
        owe(outbox, State.SENT, token=2, started_token=1, started_at=timezone.now())

        assert conditions.running_delivery(since=timezone.now() - timedelta(hours=1)) is None

    def test_is_not_one_of_the_last_fault(self, outbox: Outbox):
        before = timezone.now()
        owe(outbox, State.SENT, token=2, started_token=2, started_at=before)

        assert conditions.running_delivery(since=before + timedelta(seconds=1)) is None


class TestBankRequest:
    def test_is_started_with_the_first_attempt(self, outbox: Outbox):
        order_id = placed(outbox)

        before = conditions.is_bank_request_started(order_id)
        Delivery.objects.filter(subscription__handler="payments.authorize_payment").update(
            attempts=1
        )

        assert (before, conditions.is_bank_request_started(order_id)) == (False, True)


class TestWaiting:
    def test_ends_with_the_condition(self):
        answers = iter([False, False, True])

        Waiter().until(lambda: next(answers), "it came")

        assert list(answers) == []

    def test_times_out_and_names_its_condition(self):
        with pytest.raises(ConditionTimeout, match="Timed out after 0 s: pigs flew"):
            Waiter(ceiling=0).until(lambda: False, "pigs flew")

    def test_is_interrupted_when_the_demo_ends(self):
        watching = Waiter()
        watching.stop()

        with pytest.raises(Interrupted):
            watching.until(lambda: False, "pigs flew")

    def test_continues_while_the_bank_has_unsent_webhooks(self):
        more = iter([True, True, False])

        Waiter().until_settled([], has_unsent_webhooks=lambda: next(more), report=print)

        assert list(more) == []

    def test_ends_if_all_owed_deliveries_wait_for_staff(self, outbox: Outbox):
        owe(outbox, State.DEAD)

        Waiter().until_settled([], has_unsent_webhooks=lambda: False, report=print)

        assert conditions.unsettled() == 1


def placed(outbox: Outbox) -> UUID:
    order_id = uuid4()
    outbox.given(
        "orders.OrderPlaced",
        order_id=order_id,
        lines=[{"sku": "TEA", "quantity": 1}],
        total={"amount": 1, "currency": "JPY"},
        payment_method="tok_success",
    )
    relay(publish=lambda message: None)  # deliveries are made and sent; no worker runs
    return order_id
