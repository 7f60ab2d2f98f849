"""An order waits for the customer and the bank for so long, and for us as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import time_machine
from celery import current_app
from django.conf import settings
from django.utils import timezone
from django_celery_beat.schedulers import ModelEntry
from pytest_django import Settings

from orders import services, tasks
from orders.models import Order
from outbox import operations
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.bank import API_KEY, BankProcess
from tests.closed_port import port_of_nobody
from tests.flows.bank_moments import ask_to_capture
from tests.flows.looks import emails, moves, owed, status
from tests.inventory.factories import counters, ledger, put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(datetime.now().astimezone(), tick=True) as coordinates:
        yield coordinates


@pytest.fixture
def order(outbox: Outbox, bank: BankProcess, clock: time_machine.Traveller) -> Order:
    put_on_sale("TEA", units=5)
    return place(quantity=2)


def waits_for(order: Order) -> tuple[str, timedelta | None]:
    """For what, and about how long still."""
    order.refresh_from_db()
    left = order.deadline_at - timezone.now() if order.deadline_at else None
    return order.awaits, left and timedelta(minutes=round(left.total_seconds() / 60))


def causes(order: Order) -> list[str]:
    return list(order.history.values_list("cause", flat=True))


def bank_is_away(settings: Settings) -> None:
    settings.BANK_URL = f"http://127.0.0.1:{port_of_nobody()}"


def try_and_fail(outbox: Outbox) -> None:
    outbox.deliver_all(only="payments", raise_errors=False)
    failed = Delivery.objects.filter(state=Delivery.State.PENDING, attempts__gt=0)
    assert failed.count() == 1
    failed.update(due_at=timezone.now() + timedelta(minutes=5))  # its backoff is drawn at random


class TestADeadline:
    def test_is_set_with_each_move_and_cleared_at_the_end(
        self, outbox: Outbox, order: Order, bank: BankProcess
    ):
        seen = [waits_for(order)]
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders")
        seen.append(waits_for(order))
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        seen.append(waits_for(order))
        outbox.deliver_all()
        seen.append(waits_for(order))
        services.ship_order(order_id=order.id, carrier="A", tracking_number="1", by="staff")
        seen.append(waits_for(order))

        assert seen == [
            ("stock", HOUR),
            ("payment", HOUR),
            ("capture", DAY),
            ("shipping", None),
            ("", None),
        ]

    def test_is_cleared_by_a_cancellation(self, outbox: Outbox, order: Order):
        services.cancel_order(order_id=order.id, by="hanako")

        assert waits_for(order) == ("", None)

    def test_does_not_start_anew_with_an_answer_to_something_else(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        clock.shift(HOUR / 2)
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")

        assert waits_for(order) == ("stock", HOUR / 2)

    def test_has_its_length_in_the_settings(self, outbox: Outbox, order: Order, settings: Settings):
        settings.SHOP_DEADLINES = {"stock": 2 * HOUR}

        assert waits_for(place()) == ("stock", 2 * HOUR)


class TestWorkersThatAreDownForHours:
    @pytest.mark.parametrize("fanned_out", [False, True])
    def test_cancel_nobodys_order(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller, fanned_out: bool
    ):
        """Seen to cancel it without the question in `_cancel_if_overdue`."""
        if fanned_out:
            outbox.deliver_all(only="notifications")
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

        assert waits_for(order) == ("stock", HOUR)
        outbox.deliver_all()
        assert moves(order) == ["placed", "confirmed", "ready_to_ship"]

    def test_cancel_nobodys_order_although_the_bank_had_failed_before(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller, settings: Settings
    ):
        """Its next attempt is due, and nobody makes it: that is our delay."""
        bank_is_away(settings)
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders")
        try_and_fail(outbox)
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

        assert status(order) == "placed"

    def test_cancel_nobodys_order_while_only_orders_is_down(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="payments")
        clock.shift(3 * HOUR)

        services.cancel_overdue()
        outbox.deliver_all()

        assert status(order) == "ready_to_ship"


class TestAHandlerThatIsPausedOrDead:
    @pytest.mark.parametrize("handler", ["inventory.reserve_stock", "payments.authorize_payment"])
    def test_postpones_when_staff_paused_it(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller, handler: str
    ):
        operations.pause(handler, by="staff", reason="stocktaking")
        outbox.deliver_all()
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

    def test_postpones_when_the_fault_is_our_own(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        outbox.deliver_all(only="notifications")
        reserving = Delivery.objects.filter(subscription__handler="inventory.reserve_stock")
        reserving.update(state=Delivery.State.DEAD, attempts=45)
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

    def test_cancels_when_somebody_decided_that_no_answer_will_come(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        reserving = Delivery.objects.filter(subscription__handler="inventory.reserve_stock")
        reserving.update(state=Delivery.State.DISCARDED)
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 1
        outbox.deliver_all()
        assert (status(order), owed()) == ("cancelled", 0)


class TestABankThatDoesNotAnswer:
    @pytest.fixture
    def waiting(self, outbox: Outbox, order: Order, settings: Settings) -> Order:
        bank_is_away(settings)
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="orders")
        return order

    def test_has_its_time(self, outbox: Outbox, waiting: Order, clock: time_machine.Traveller):
        clock.shift(HOUR - timedelta(minutes=1))
        try_and_fail(outbox)

        assert services.cancel_overdue() == 0

    def test_costs_the_order_after_that_and_the_goods_can_be_sold_again(
        self,
        outbox: Outbox,
        waiting: Order,
        clock: time_machine.Traveller,
        settings: Settings,
        bank: BankProcess,
    ):
        clock.shift(HOUR + timedelta(minutes=1))
        try_and_fail(outbox)

        tasks.cancel_overdue()

        assert waits_for(waiting) == ("", None)
        cancelled = outbox.emitted("orders.OrderCancelled")
        assert (cancelled.order_id, cancelled.reason) == (waiting.id, "overdue")
        outbox.deliver_all(only="inventory")
        assert counters("TEA") == ledger("TEA") == (5, 0)
        settings.BANK_URL, settings.BANK_API_KEY = bank.url, API_KEY
        clock.shift(HOUR)
        outbox.deliver_all()
        charges = bank.charges(waiting.id)
        assert charges.get("authorizations", 0) == charges.get("voids", 0)
        assert emails(waiting) == {"acknowledgement", "cancellation"}
        assert owed() == 0

    def test_is_cancelled_by_the_sweep_in_the_history_and_in_the_event(
        self, outbox: Outbox, waiting: Order, clock: time_machine.Traveller
    ):
        clock.shift(2 * HOUR)
        try_and_fail(outbox)

        services.cancel_overdue()

        assert causes(waiting)[-1] == "orders.cancel_overdue, no payment"
        event = Event.objects.get(name="orders.OrderCancelled")
        assert event.actor == "job:orders.cancel_overdue"

    def test_and_took_the_money_nevertheless_gives_it_back(
        self,
        outbox: Outbox,
        order: Order,
        clock: time_machine.Traveller,
        settings: Settings,
        bank: BankProcess,
    ):
        """The outcome of the capture is unknown for a day: time-outs, then nothing."""
        outbox.deliver_all(only="inventory")
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")
        ask_to_capture(order)
        bank_is_away(settings)
        clock.shift(DAY + HOUR)
        try_and_fail(outbox)

        assert services.cancel_overdue() == 1

        settings.BANK_URL = bank.url
        clock.shift(HOUR)
        outbox.deliver_all()
        assert bank.charges(order.id) == {"authorizations": 1, "captures": 1, "refunds": 1}
        assert (status(order), owed()) == ("cancelled", 0)

    def test_and_agrees_after_the_deadline_is_voided(
        self,
        outbox: Outbox,
        waiting: Order,
        clock: time_machine.Traveller,
        settings: Settings,
        bank: BankProcess,
    ):
        clock.shift(2 * HOUR)
        try_and_fail(outbox)
        services.cancel_overdue()
        settings.BANK_URL = bank.url
        outbox.given("payments.PaymentAuthorized", order_id=waiting.id, amount=waiting.total)

        clock.shift(HOUR)
        outbox.deliver_all()

        assert moves(waiting) == ["placed", "cancelled"]
        assert bank.charges(waiting.id).get("captures") is None


class TestTheSweep:
    def test_looks_again_under_the_lock(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        """Found as overdue, and then, before its turn, it moved on."""
        outbox.deliver_all()
        assert services._cancel_if_overdue(order.id) is False
        assert status(order) == "ready_to_ship"

    def test_takes_the_overdue_ones_only(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        other = place()
        Delivery.objects.update(state=Delivery.State.DISCARDED)
        Event.objects.update(fanned_out_at=timezone.now())
        Order.objects.filter(pk=order.pk).update(deadline_at=timezone.now())

        assert services.cancel_overdue() == 1

        assert (status(order), status(other)) == ("cancelled", "placed")

    def test_is_what_beat_sends_to_the_queue_of_orders_and_not_for_later(self):
        """The scheduler ignores an option that it does not know, such as `expires`."""
        scheduled = settings.CELERY_BEAT_SCHEDULE["orders.cancel_overdue"]

        entry = ModelEntry.from_entry("sweep", app=current_app, **scheduled)

        assert entry.task == tasks.cancel_overdue.name
        assert (entry.options["queue"], entry.options["expires"]) == ("orders", 60)
