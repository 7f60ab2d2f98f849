"""Reconciliation finds each change of data that no service made, and names its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from inventory.models import Reservation, ReservationLine, Stock, StockMovement
from notifications.models import Email
from orders import services
from orders.models import Order
from outbox import operations
from outbox.models import Delivery, Event, Settlement, Subscription
from outbox.reconciliation.examination import Reconciliation, reconcile
from outbox.testing import Outbox
from payments import gateway
from payments.models import Payment, Refund
from shared.money import Money
from tests.bank import BankProcess
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

pytestmark = pytest.mark.django_db

# An app that a team adds is not held to it.
OURS = {"outbox", "orders", "inventory", "payments", "notifications"}


@dataclass
class Shop:
    """Settled orders without differences."""

    paid: Order
    refunded: Order
    declined: Order


@pytest.fixture
def shop(outbox: Outbox, bank: BankProcess) -> Shop:
    Subscription.objects.update(since=timezone.now() - timedelta(days=1))
    put_on_sale("TEA", units=5)
    shop = Shop(place(), place(quantity=2), place(payment_method="tok_declined"))
    outbox.deliver_all()
    lines = [services.WantedLine(sku="TEA", quantity=1)]
    services.ship_order(order_id=shop.refunded.id, carrier="A", tracking_number="1", by="staff")
    services.request_refund(order_id=shop.refunded.id, lines=lines, return_stock=True, by="staff")
    outbox.deliver_all()
    assert reconcile().is_balanced
    return shop


def differences(done: Reconciliation) -> dict[str, list[str]]:
    """The differences by invariant."""
    found = {one.invariant.name: [each.text for each in one.kept] for one in done.findings}
    return {name: texts for name, texts in found.items() if texts}


def row(order: Order):
    return Order.objects.filter(pk=order.pk)


def payment(order: Order):
    return Payment.objects.filter(order_id=order.pk)


def forget(name: str, order: Order) -> None:
    events = Event.objects.filter(name=name, key=str(order.pk))
    Delivery.objects.filter(event__in=events).delete()
    assert events.delete()[0]


def emit_again(name: str, order: Order) -> None:
    event = Event.objects.get(name=name, key=str(order.pk))
    Event.objects.create(
        name=name,
        key=event.key,
        payload=event.payload,
        emitted_at=event.emitted_at,
        correlation_id=event.correlation_id,
        fanned_out_at=event.emitted_at - timedelta(days=2),  # before any subscription
    )


def receive_without_event(order: Order) -> None:
    """Store a valid history without its event."""
    row(order).update(status="received")
    order.history.create(from_status="shipped", to_status="received", cause="a script")


def lose_the_refund(order: Order) -> None:
    refunds = Refund.objects.filter(payment__order_id=order.pk)
    refunds.get().history.all().delete()
    refunds.delete()
    payment(order).update(refund_amount=0)


def settle(order: Order, state: Settlement.State) -> None:
    """Store the settlement of a delivery that is done, without its time."""
    done = deliveries(order).first()
    assert done is not None
    Settlement.objects.create(
        delivery=done, event=done.event.id, consumer="billing", state=state, due_at=timezone.now()
    )


def go_below_zero(_order: Order) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        else:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for name in ("stock_reserved_not_negative", "stock_reserved_is_on_hand"):
                cursor.execute(f"ALTER TABLE inventory_stock DROP CONSTRAINT {name}")
        Stock.objects.update(on_hand=-1)
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


def charge_unknown_to_us(order: Order) -> None:
    bank = gateway.current()
    held = bank.authorize(
        reference=str(order.id),
        amount=order.total,
        payment_method="tok_success",
        idempotency_key=f"{order.id}-by-hand",
    )
    bank.capture(
        authorization_id=held.authorization_id,
        amount=order.total,
        idempotency_key=f"{order.id}-by-hand-too",
    )


def refund_at_the_bank(order: Order) -> None:
    gateway.current().refund(
        reference=str(order.id),
        capture_id=payment(order).get().capture_id,
        amount=Money(amount=100, currency="JPY"),
        idempotency_key=f"{order.id}-by-hand",
    )


def write_twice(order: Order) -> None:
    email = Email.objects.get(order_id=order.pk, kind="acknowledgement")
    email.pk, email.message_id, email.about = Email().pk, "<another>", "again"
    email.save(force_insert=True)


def receive_twice(order: Order) -> None:
    delivery = Delivery.objects.get(
        event__key=str(order.pk), subscription__handler="inventory.reserve_stock"
    )
    subscription = delivery.subscription
    subscription.pk, subscription.event = None, "orders.OrderReplaced"
    subscription.save()
    delivery.pk, delivery.subscription = None, subscription
    delivery.save()


def deliveries(order: Order):
    return Delivery.objects.filter(
        event__key=str(order.pk), subscription__handler="inventory.reserve_stock"
    )


# For each change: the invariant that finds it, the order, and the change.
SABOTAGE: dict[str, tuple[str, str, Callable[[Order], object]]] = {
    "a status that is set by update()": (
        "orders.status_matches_history",
        "paid",
        lambda order: row(order).update(status="shipped"),
    ),
    "a status that is reset": (
        "orders.waiting_orders_have_owed_deliveries",
        "paid",
        lambda order: row(order).update(status="confirmed"),
    ),
    "a status change that is missing": (
        "orders.history_is_continuous",
        "paid",
        lambda order: order.history.filter(to_status="confirmed").delete(),
    ),
    "a status change without its event": (
        "orders.status_changes_match_events",
        "refunded",
        receive_without_event,
    ),
    "an event that is deleted": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: forget("orders.OrderReadyToShip", order),
    ),
    "an event without its status change": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: order.history.filter(to_status="ready_to_ship").delete(),
    ),
    "a duplicate event": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: emit_again("orders.OrderConfirmed", order),
    ),
    "an answer that is missing": (
        "orders.status_changes_follow_answers",
        "paid",
        lambda order: forget("payments.PaymentCaptured", order),
    ),
    "a total that was changed": (
        "orders.totals_match_lines",
        "paid",
        lambda order: row(order).update(total_amount=1),
    ),
    "a refund without its event": (
        "orders.refund_requests_match_events",
        "refunded",
        lambda order: forget("orders.RefundRequested", order),
    ),
    "a refund that payments does not have": (
        "orders.payments_match_orders",
        "refunded",
        lose_the_refund,
    ),
    "stock that was released": (
        "orders.reservations_match_orders",
        "paid",
        lambda order: Reservation.objects.filter(pk=order.pk).update(status="released"),
    ),
    "a counter that was changed": (
        "inventory.stock_counters_match_ledger",
        "paid",
        lambda _: Stock.objects.update(on_hand=F("on_hand") + 1),
    ),
    "a counter below zero": ("inventory.stock_is_not_negative", "paid", go_below_zero),
    "a reservation of more": (
        "inventory.reserved_stock_matches_reservations",
        "paid",
        lambda order: ReservationLine.objects.filter(reservation=order.pk).update(quantity=2),
    ),
    "a movement that is deleted": (
        "inventory.reservations_match_ledger",
        "refunded",
        lambda order: StockMovement.objects.filter(kind="issued", reference=order.pk).delete(),
    ),
    "a reservation without its event": (
        "inventory.reservations_match_events",
        "paid",
        lambda order: forget("inventory.StockReserved", order),
    ),
    "a reservation that was refused afterwards": (
        "inventory.reservations_match_events",
        "paid",
        lambda order: Reservation.objects.filter(pk=order.pk).update(status="refused"),
    ),
    "a payment's status change that is missing": (
        "payments.statuses_match_histories",
        "paid",
        lambda order: payment(order).get().history.filter(to_status="captured").delete(),
    ),
    "a refund's status change that is missing": (
        "payments.statuses_match_histories",
        "refunded",
        lambda order: Refund.objects.get().history.filter(to_status="refunded").delete(),
    ),
    "an authorization without its event": (
        "payments.status_changes_match_events",
        "paid",
        lambda order: forget("payments.PaymentAuthorized", order),
    ),
    "a refund's answer without its event": (
        "payments.refunds_match_events",
        "refunded",
        lambda order: forget("payments.PaymentRefunded", order),
    ),
    "a sum of refunds that was changed": (
        "payments.refund_totals_match_refunds",
        "paid",
        lambda order: payment(order).update(refund_amount=1),
    ),
    "an unknown outcome without an owed delivery": (
        "payments.unknown_outcomes_have_owed_deliveries",
        "paid",
        lambda order: payment(order).update(status="capturing", capture_id=""),
    ),
    "a charge at the bank that we do not know": (
        "payments.bank_matches_payments",
        "declined",
        charge_unknown_to_us,
    ),
    "a refund at the bank that we do not know": (
        "payments.bank_matches_payments",
        "paid",
        refund_at_the_bank,
    ),
    "a capture of ours that the bank does not know": (
        "payments.bank_matches_payments",
        "paid",
        lambda order: payment(order).update(capture_id="cap_of_nobody"),
    ),
    "an e-mail that is deleted": (
        "notifications.handled_events_have_emails",
        "paid",
        lambda order: Email.objects.filter(order_id=order.pk, kind="payment").delete(),
    ),
    "an e-mail of a refund that was never sent": (
        "notifications.handled_events_have_emails",
        "refunded",
        lambda order: Email.objects.filter(kind="refund").update(sent_at=None),
    ),
    "an e-mail of a refund that is suppressed": (
        "notifications.handled_events_have_emails",
        "refunded",
        lambda order: Email.objects.filter(kind="refund").update(
            sent_at=None, suppressed_because="limit"
        ),
    ),
    "a duplicate e-mail": (
        "notifications.emails_have_events",
        "paid",
        write_twice,
    ),
    "an e-mail without its event": (
        "notifications.emails_have_events",
        "refunded",
        lambda order: forget("payments.PaymentRefunded", order),
    ),
    "a delivery that is deleted": (
        "outbox.every_subscription_has_its_delivery",
        "paid",
        lambda order: deliveries(order).delete(),
    ),
    "an event that is to be fanned out again": (
        "outbox.waiting_events_have_no_delivery",
        "paid",
        lambda order: Event.objects.filter(key=str(order.pk)).update(fanned_out_at=None),
    ),
    "a second receipt": ("outbox.one_receipt_for_each_handler", "paid", receive_twice),
    "a receipt without a run": (
        "outbox.receipts_are_complete",
        "paid",
        lambda order: deliveries(order).update(attempts=0),
    ),
    "a receipt without its time": (
        "outbox.receipts_are_complete",
        "paid",
        lambda order: deliveries(order).update(settled_at=None),
    ),
    "a missing settlement of a delivery that is done": (
        "outbox.settlements_match_their_deliveries",
        "paid",
        lambda order: settle(order, Settlement.State.MISSING),
    ),
    "a settlement without its time": (
        "outbox.settlements_match_their_deliveries",
        "paid",
        lambda order: settle(order, Settlement.State.SETTLED),
    ),
}


class TestADifference:
    @pytest.mark.parametrize("what", SABOTAGE)
    def test_is_reported_by_its_invariant_with_its_row(
        self, shop: Shop, bank: BankProcess, what: str
    ):
        invariant, which, do = SABOTAGE[what]
        order: Order = getattr(shop, which)
        do(order)

        found = differences(reconcile())

        assert invariant in found
        about = {str(order.id), order.reference, "TEA"}
        assert all(any(word in text for word in about) for text in found[invariant])

    def test_of_every_invariant_is_tested(self, shop: Shop, bank: BankProcess):
        known = {one.invariant.name for one in reconcile().findings}
        ours = {name for name in known if name.partition(".")[0] in OURS}

        assert ours == {name for name, *_ in SABOTAGE.values()}

    def test_is_formatted_as_money(self, shop: Shop, bank: BankProcess):
        """Failed while it was in minor units."""
        payment(shop.paid).update(refund_amount=300)

        [text] = differences(reconcile())["payments.refund_totals_match_refunds"]

        assert text.endswith("the refund amount is ¥300, but the refunds sum to ¥0.")


class TestPrunedEvents:
    def test_are_no_difference(self, shop: Shop, outbox: Outbox, bank: BankProcess):
        """Failed without the check of the horizon."""
        operations.prune(older_than=timedelta(0), by="test")
        young = place()
        outbox.deliver_all()

        assert not Event.objects.filter(key=str(shop.paid.pk)).exists()
        assert differences(reconcile()) == {}

        forget("orders.OrderConfirmed", young)
        assert [*differences(reconcile())] == ["orders.status_changes_match_events"]


class TestAnOwedDelivery:
    def test_makes_a_difference_unsettled(self, shop: Shop, outbox: Outbox, bank: BankProcess):
        """Failed without the check of owed deliveries."""
        services.cancel_order(order_id=shop.paid.id, by="hanako")
        placed = place()

        done = reconcile()

        assert differences(done) == {}
        assert done.unsettled == 2
        unsettled = {one.invariant.name: one.kept_unsettled for one in done.findings}
        assert unsettled["orders.payments_match_orders"][0].row == shop.paid
        assert unsettled["orders.reservations_match_orders"][0].row == shop.paid
        assert unsettled["orders.waiting_orders_have_owed_deliveries"][0].row == placed

    def test_does_not_excuse_an_invariant_that_always_holds(
        self, shop: Shop, outbox: Outbox, bank: BankProcess
    ):
        services.cancel_order(order_id=shop.paid.id, by="hanako")
        row(shop.paid).update(status="shipped", cancel_reason="")

        assert "orders.status_matches_history" in differences(reconcile())


class TestAnUnreachableBank:
    def test_is_a_difference(self, shop: Shop, bank: BankProcess, settings):
        settings.BANK_API_KEY = "revoked"

        assert [*differences(reconcile())] == ["payments.bank_matches_payments"]
