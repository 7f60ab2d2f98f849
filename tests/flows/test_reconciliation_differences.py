"""Whatever somebody does to the books behind the services' backs, it is found and named."""

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
from outbox.models import Delivery, Event, Subscription
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
    """Orders that are at rest, and books that balance."""

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


def said(done: Reconciliation) -> dict[str, list[str]]:
    """What differs, by the invariant that says so."""
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


def tell_once_more(name: str, order: Order) -> None:
    event = Event.objects.get(name=name, key=str(order.pk))
    Event.objects.create(
        name=name,
        key=event.key,
        payload=event.payload,
        emitted_at=event.emitted_at,
        correlation_id=event.correlation_id,
        fanned_out_at=event.emitted_at - timedelta(days=2),  # before anybody listened
    )


def receive_silently(order: Order) -> None:
    """The right history, and nobody told."""
    row(order).update(status="received")
    order.history.create(from_status="shipped", to_status="received", cause="a script")


def lose_the_refund(order: Order) -> None:
    refunds = Refund.objects.filter(payment__order_id=order.pk)
    refunds.get().history.all().delete()
    refunds.delete()
    payment(order).update(refund_amount=0)


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


# Which invariant names it, what is done, and to which order.
SABOTAGE: dict[str, tuple[str, str, Callable[[Order], object]]] = {
    "a status that is set by update()": (
        "orders.status_matches_history",
        "paid",
        lambda order: row(order).update(status="shipped"),
    ),
    "a status that is set back": (
        "orders.waiting_orders_have_owed_deliveries",
        "paid",
        lambda order: row(order).update(status="confirmed"),
    ),
    "a move that is missing": (
        "orders.history_is_continuous",
        "paid",
        lambda order: order.history.filter(to_status="confirmed").delete(),
    ),
    "a move that nobody told": ("orders.status_changes_match_events", "refunded", receive_silently),
    "an event that is gone": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: forget("orders.OrderReadyToShip", order),
    ),
    "an event without its move": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: order.history.filter(to_status="ready_to_ship").delete(),
    ),
    "an event that was told twice": (
        "orders.status_changes_match_events",
        "paid",
        lambda order: tell_once_more("orders.OrderConfirmed", order),
    ),
    "an answer that was never given": (
        "orders.status_changes_follow_answers",
        "paid",
        lambda order: forget("payments.PaymentCaptured", order),
    ),
    "a total that was changed": (
        "orders.totals_match_lines",
        "paid",
        lambda order: row(order).update(total_amount=1),
    ),
    "a refund that nobody told": (
        "orders.refund_requests_match_events",
        "refunded",
        lambda order: forget("orders.RefundRequested", order),
    ),
    "a refund that payments does not have": (
        "orders.payments_match_orders",
        "refunded",
        lose_the_refund,
    ),
    "goods that were let go": (
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
    "a movement that is gone": (
        "inventory.reservations_match_ledger",
        "refunded",
        lambda order: StockMovement.objects.filter(kind="issued", reference=order.pk).delete(),
    ),
    "stock that nobody told of": (
        "inventory.reservations_match_events",
        "paid",
        lambda order: forget("inventory.StockReserved", order),
    ),
    "a reservation that was refused afterwards": (
        "inventory.reservations_match_events",
        "paid",
        lambda order: Reservation.objects.filter(pk=order.pk).update(status="refused"),
    ),
    "a payment's move that is missing": (
        "payments.statuses_match_histories",
        "paid",
        lambda order: payment(order).get().history.filter(to_status="captured").delete(),
    ),
    "a refund's move that is missing": (
        "payments.statuses_match_histories",
        "refunded",
        lambda order: Refund.objects.get().history.filter(to_status="refunded").delete(),
    ),
    "an authorization that nobody told": (
        "payments.status_changes_match_events",
        "paid",
        lambda order: forget("payments.PaymentAuthorized", order),
    ),
    "a refund's answer that nobody told": (
        "payments.refunds_match_events",
        "refunded",
        lambda order: forget("payments.PaymentRefunded", order),
    ),
    "a sum of refunds that was changed": (
        "payments.refund_totals_match_refunds",
        "paid",
        lambda order: payment(order).update(refund_amount=1),
    ),
    "a question that nobody asks any more": (
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
    "an e-mail that is gone": (
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
    "an e-mail that is doubled": (
        "notifications.emails_have_events",
        "paid",
        write_twice,
    ),
    "an e-mail that no event explains": (
        "notifications.emails_have_events",
        "refunded",
        lambda order: forget("payments.PaymentRefunded", order),
    ),
    "a delivery that is gone": (
        "outbox.every_subscription_has_its_delivery",
        "paid",
        lambda order: deliveries(order).delete(),
    ),
    "an event that is to be fanned out again": (
        "outbox.what_waits_has_no_delivery",
        "paid",
        lambda order: Event.objects.filter(key=str(order.pk)).update(fanned_out_at=None),
    ),
    "a second receipt": ("outbox.one_receipt_for_each_handler", "paid", receive_twice),
    "a receipt without a run": (
        "outbox.receipts_are_whole",
        "paid",
        lambda order: deliveries(order).update(attempts=0),
    ),
    "a receipt without its time": (
        "outbox.receipts_are_whole",
        "paid",
        lambda order: deliveries(order).update(settled_at=None),
    ),
}


class TestWhatDiffers:
    @pytest.mark.parametrize("what", SABOTAGE)
    def test_is_named_with_what_it_is_about(self, shop: Shop, bank: BankProcess, what: str):
        invariant, which, do = SABOTAGE[what]
        order: Order = getattr(shop, which)
        do(order)

        found = said(reconcile())

        assert invariant in found
        about = {str(order.id), order.reference, "TEA"}
        assert all(any(word in text for word in about) for text in found[invariant])

    def test_every_invariant_has_been_seen_to_name_something(self, shop: Shop, bank: BankProcess):
        known = {one.invariant.name for one in reconcile().findings}
        ours = {name for name in known if name.partition(".")[0] in OURS}

        assert ours == {name for name, *_ in SABOTAGE.values()}

    def test_is_told_in_money(self, shop: Shop, bank: BankProcess):
        """Seen to fail while it was told in minor units."""
        payment(shop.paid).update(refund_amount=300)

        [text] = said(reconcile())["payments.refund_totals_match_refunds"]

        assert text.endswith("the refund amount is ¥300, but the refunds sum to ¥0.")


class TestWhatWasPruned:
    def test_is_not_missed(self, shop: Shop, outbox: Outbox, bank: BankProcess):
        """Seen to fail without the look at the horizon."""
        operations.prune(older_than=timedelta(0), by="test")
        young = place()
        outbox.deliver_all()

        assert not Event.objects.filter(key=str(shop.paid.pk)).exists()
        assert said(reconcile()) == {}

        forget("orders.OrderConfirmed", young)
        assert [*said(reconcile())] == ["orders.status_changes_match_events"]


class TestWhatIsOwed:
    def test_is_unsettled_and_not_wrong(self, shop: Shop, outbox: Outbox, bank: BankProcess):
        """Seen to fail without the look at what is owed."""
        services.cancel_order(order_id=shop.paid.id, by="hanako")
        placed = place()

        done = reconcile()

        assert said(done) == {}
        assert done.unsettled == 2
        unsettled = {one.invariant.name: one.kept_unsettled for one in done.findings}
        assert unsettled["orders.payments_match_orders"][0].row == shop.paid
        assert unsettled["orders.reservations_match_orders"][0].row == shop.paid
        assert unsettled["orders.waiting_orders_have_owed_deliveries"][0].row == placed

    def test_excuses_nothing_that_must_hold_at_any_moment(
        self, shop: Shop, outbox: Outbox, bank: BankProcess
    ):
        services.cancel_order(order_id=shop.paid.id, by="hanako")
        row(shop.paid).update(status="shipped", cancel_reason="")

        assert "orders.status_matches_history" in said(reconcile())


class TestABankThatCannotBeAsked:
    def test_is_no_bank_that_agrees(self, shop: Shop, bank: BankProcess, settings):
        settings.BANK_API_KEY = "revoked"

        assert [*said(reconcile())] == ["payments.bank_matches_payments"]
