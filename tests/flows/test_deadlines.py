"""Deadlines limit the waits for customer and bank, and never our own work."""

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
from tests.flows.state import emails, owed, status, statuses
from tests.flows.unanswered_requests import ask_to_capture
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
    def test_is_set_with_each_transition_and_cleared_at_the_end(
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

    def test_does_not_restart_with_another_answer(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        clock.shift(HOUR / 2)
        outbox.deliver_all(only="payments")
        outbox.deliver_all(only="orders")

        assert waits_for(order) == ("stock", HOUR / 2)

    def test_has_the_length_in_the_settings(self, outbox: Outbox, order: Order, settings: Settings):
        settings.SHOP_DEADLINES = {"stock": 2 * HOUR}

        assert waits_for(place()) == ("stock", 2 * HOUR)


class TestAnOutageOfWorkers:
    @pytest.mark.parametrize("fanned_out", [False, True])
    def test_cancels_no_order(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller, fanned_out: bool
    ):
        """Seen to cancel it without the question in `_cancel_if_overdue`."""
        if fanned_out:
            outbox.deliver_all(only="notifications")
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

        assert waits_for(order) == ("stock", HOUR)
        outbox.deliver_all()
        assert statuses(order) == ["placed", "confirmed", "ready_to_ship"]

    def test_leaves_the_time_of_the_last_change(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        """Failed: an order that stood still for ten hours was shown as changed in the last one."""
        order.refresh_from_db()
        changed_at = order.changed_at
        clock.shift(3 * HOUR)

        services.cancel_overdue()

        assert waits_for(order) == ("stock", HOUR)
        assert order.changed_at == changed_at

    def test_cancels_no_order_after_a_failure_of_the_bank(
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

    def test_of_orders_alone_cancels_no_order(
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
    def test_that_staff_paused_extends_the_deadline(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller, handler: str
    ):
        operations.pause(handler, by="staff", reason="stocktaking")
        outbox.deliver_all()
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

    def test_with_our_own_fault_extends_the_deadline(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        outbox.deliver_all(only="notifications")
        reserving = Delivery.objects.filter(subscription__handler="inventory.reserve_stock")
        reserving.update(state=Delivery.State.DEAD, attempts=45)
        clock.shift(3 * HOUR)

        assert services.cancel_overdue() == 0

    def test_that_was_discarded_cancels_the_order(
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

    def test_does_not_cancel_before_the_deadline(
        self, outbox: Outbox, waiting: Order, clock: time_machine.Traveller
    ):
        clock.shift(HOUR - timedelta(minutes=1))
        try_and_fail(outbox)

        assert services.cancel_overdue() == 0

    def test_cancels_the_order_after_it_and_releases_its_stock(
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

    def test_is_named_by_history_and_event_of_the_cancellation(
        self, outbox: Outbox, waiting: Order, clock: time_machine.Traveller
    ):
        clock.shift(2 * HOUR)
        try_and_fail(outbox)

        services.cancel_overdue()

        assert causes(waiting)[-1] == "orders.cancel_overdue, no payment"
        event = Event.objects.get(name="orders.OrderCancelled")
        assert event.actor == "job:orders.cancel_overdue"

    def test_but_captured_refunds_the_payment(
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

    def test_but_authorizes_later_voids_the_payment(
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

        assert statuses(waiting) == ["placed", "cancelled"]
        assert bank.charges(waiting.id).get("captures") is None


class TestTheSweep:
    def test_checks_again_under_the_lock(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        """Found as overdue, and then, before its turn, it moved on."""
        outbox.deliver_all()
        assert services._cancel_if_overdue(order.id) is False
        assert status(order) == "ready_to_ship"

    def test_takes_overdue_orders_only(
        self, outbox: Outbox, order: Order, clock: time_machine.Traveller
    ):
        other = place()
        Delivery.objects.update(state=Delivery.State.DISCARDED)
        Event.objects.update(fanned_out_at=timezone.now())
        Order.objects.filter(pk=order.pk).update(deadline_at=timezone.now())

        assert services.cancel_overdue() == 1

        assert (status(order), status(other)) == ("cancelled", "placed")

    def test_is_sent_by_beat_to_the_queue_of_orders_and_expires(self):
        """The scheduler ignores an option that it does not know, such as `expires`."""
        scheduled = settings.CELERY_BEAT_SCHEDULE["orders.cancel_overdue"]

        entry = ModelEntry.from_entry("sweep", app=current_app, **scheduled)

        assert entry.task == tasks.cancel_overdue.name
        assert (entry.options["queue"], entry.options["expires"]) == ("orders", 60)
