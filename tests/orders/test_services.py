from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction

from inventory.models import Product
from orders import services
from orders.models import Order
from outbox.testing import Outbox
from shared.money import CurrencyMismatch, Money
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, history, place

pytestmark = pytest.mark.django_db


def wanted(**quantities: int) -> list[services.WantedLine]:
    return [services.WantedLine(sku=sku, quantity=count) for sku, count in quantities.items()]


def place_many(**quantities: int) -> Order:
    return services.place_order(
        customer=customer(),
        lines=wanted(**quantities),
        payment_method="tok_success",
        email="hanako@example.com",
        language="en",
    )


def status_of(order: Order) -> str:
    return Order.objects.get(pk=order.pk).status


class TestPlaceOrder:
    def test_computes_the_total_from_the_price_list(self, outbox: Outbox):
        put_on_sale("TEA", price=500)
        put_on_sale("CUP", price=1200)

        order = place_many(TEA=3, CUP=1)

        assert order.total == Money(amount=2700, currency="JPY")
        assert [line.total.amount for line in order.lines.all()] == [1500, 1200]

    def test_tells_what_stock_and_payment_need(self, outbox: Outbox):
        put_on_sale("TEA", price=500)

        order = place_many(TEA=3)

        assert outbox.emitted("orders.OrderPlaced").model_dump() == {
            "order_id": order.id,
            "lines": [{"sku": "TEA", "quantity": 3}],
            "total": {"amount": 1500, "currency": "JPY"},
            "payment_method": "tok_success",
        }

    @pytest.mark.parametrize(("language", "name"), [("ja", "煎茶"), ("en", "Tea")])
    def test_names_products_in_the_language_of_the_order(
        self, outbox: Outbox, language: str, name: str
    ):
        put_on_sale("TEA")
        Product.objects.update(name_ja="煎茶")

        order = place(language=language)

        assert [line.name for line in order.lines.all()] == [name]

    def test_keeps_name_and_price_as_they_were(self, outbox: Outbox):
        put_on_sale("TEA", price=500)
        order = place_many(TEA=1)

        Product.objects.update(name="Dear tea", price=9999)

        line = order.lines.get()
        assert (line.name, line.unit_price.amount) == ("Tea", 500)

    def test_refuses_what_is_unknown_or_not_on_sale(self, outbox: Outbox):
        put_on_sale("TEA")
        put_on_sale("OLD")
        Product.objects.filter(sku="OLD").update(on_sale=False)

        with pytest.raises(services.NotForSale) as refusal:
            place_many(TEA=1, OLD=1, GONE=1)

        assert refusal.value.skus == ["GONE", "OLD"]
        assert not Order.objects.exists()
        assert outbox.all_emitted() == []

    def test_refuses_a_sum_of_two_currencies(self, outbox: Outbox):
        put_on_sale("TEA")
        put_on_sale("CUP")
        Product.objects.filter(sku="CUP").update(currency="USD")

        with pytest.raises(CurrencyMismatch):
            place_many(TEA=1, CUP=1)

        assert not Order.objects.exists()

    def test_stores_order_and_event_together_or_not_at_all(self, outbox: Outbox):
        put_on_sale("TEA")

        with transaction.atomic():
            place_many(TEA=1)
            transaction.set_rollback(True)

        assert not Order.objects.exists()
        assert outbox.all_emitted() == []

    def test_puts_no_address_into_an_event(self, outbox: Outbox):
        put_on_sale("TEA")

        place_many(TEA=1)

        assert "@" not in outbox.emitted("orders.OrderPlaced").model_dump_json()


HALVES = [services.record_stock_reserved, services.record_payment_authorized]


class TestTheJoin:
    @pytest.mark.parametrize("halves", [HALVES, HALVES[::-1]])
    def test_confirms_when_both_halves_are_there(
        self, outbox: Outbox, halves: list[Callable[..., None]]
    ):
        put_on_sale()
        order = place()

        halves[0](order_id=order.id)
        assert status_of(order) == "placed"
        halves[1](order_id=order.id)

        assert status_of(order) == "confirmed"
        assert outbox.emitted("orders.OrderConfirmed").order_id == order.id

    @pytest.mark.parametrize("half", HALVES)
    def test_does_not_take_one_half_twice_for_both(self, outbox: Outbox, half: Callable[..., None]):
        put_on_sale()
        order = place()

        half(order_id=order.id)
        half(order_id=order.id)

        assert status_of(order) == "placed"

    def test_names_the_half_that_completed_it(self, outbox: Outbox):
        put_on_sale()
        order = place()

        services.record_payment_authorized(order_id=order.id)
        services.record_stock_reserved(order_id=order.id)

        assert history(order)[-1] == ("placed", "confirmed", "inventory.StockReserved")

    @pytest.mark.parametrize("half", HALVES)
    def test_ignores_a_half_that_comes_after_the_cancellation(
        self, outbox: Outbox, half: Callable[..., None]
    ):
        put_on_sale()
        order = place()
        services.cancel_for_lack_of_stock(order_id=order.id)

        half(order_id=order.id)

        order.refresh_from_db()
        assert order.status == "cancelled"
        assert order.stock_reserved_at is order.payment_authorized_at is None


class TestCancel:
    def test_says_so_once_with_the_first_reason(self, outbox: Outbox):
        put_on_sale()
        order = place()

        services.cancel_for_declined_payment(order_id=order.id)
        services.cancel_for_lack_of_stock(order_id=order.id)

        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("cancelled", "payment_declined")
        assert outbox.emitted("orders.OrderCancelled").reason == "payment_declined"
        assert history(order)[-1] == ("placed", "cancelled", "payments.PaymentDeclined")


def confirmed() -> Order:
    put_on_sale()
    order = place()
    services.record_stock_reserved(order_id=order.id)
    services.record_payment_authorized(order_id=order.id)
    return order


def ready_to_ship() -> Order:
    order = confirmed()
    services.release_for_shipping(order_id=order.id)
    return order


class TestReleaseForShipping:
    def test_says_so_once_and_thinly(self, outbox: Outbox):
        order = confirmed()

        services.release_for_shipping(order_id=order.id)
        services.release_for_shipping(order_id=order.id)

        assert status_of(order) == "ready_to_ship"
        assert outbox.emitted("orders.OrderReadyToShip").model_dump() == {"order_id": order.id}

    def test_does_nothing_for_a_cancelled_order(self, outbox: Outbox):
        order = confirmed()
        services.cancel_for_lack_of_stock(order_id=order.id)

        services.release_for_shipping(order_id=order.id)

        assert status_of(order) == "cancelled"

    def test_refuses_an_order_that_was_never_confirmed(self, outbox: Outbox):
        put_on_sale()
        order = place()

        with pytest.raises(Order.InvalidTransition):
            services.release_for_shipping(order_id=order.id)


class TestShipAndReceive:
    def test_tell_carrier_and_number_and_who_did_it(self, outbox: Outbox):
        order = ready_to_ship()

        for _ in range(2):
            services.ship_order(
                order_id=order.id, carrier="Kuroneko", tracking_number="4711", by="staff"
            )
        services.receive_order(order_id=order.id, by="staff")
        services.receive_order(order_id=order.id, by="staff")

        shipped = outbox.emitted("orders.OrderShipped")
        assert (shipped.carrier, shipped.tracking_number) == ("Kuroneko", "4711")
        assert outbox.emitted("orders.OrderReceived").order_id == order.id
        assert history(order)[-2:] == [
            ("ready_to_ship", "shipped", "orders.ship_order by staff"),
            ("shipped", "received", "orders.receive_order by staff"),
        ]

    def test_refuse_an_order_that_is_not_paid(self, outbox: Outbox):
        order = confirmed()

        with pytest.raises(Order.InvalidTransition):
            services.ship_order(order_id=order.id, carrier="", tracking_number="", by="staff")

        assert outbox.all_emitted("orders.OrderShipped") == []
