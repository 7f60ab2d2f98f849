from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings
from uuid_utils.compat import uuid7

from inventory import queries, services
from inventory.events import MissingLine
from inventory.models import Product, Reservation, ReservationLine, Stock
from outbox.testing import Outbox
from shared.money import Money
from tests.inventory.factories import counters, ledger, line, put_on_sale

pytestmark = pytest.mark.django_db


def status_of(order_id) -> str:
    return Reservation.objects.get(pk=order_id).status


class TestReserveStock:
    def test_reserves_every_line(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        put_on_sale("CUP", units=2)
        order_id = uuid7()

        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3), line("CUP", 2)])

        assert (counters("TEA"), counters("CUP")) == ((5, 3), (2, 2))
        assert status_of(order_id) == "reserved"
        assert outbox.emitted("inventory.StockReserved").order_id == order_id

    def test_reserves_nothing_if_one_line_is_short(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        put_on_sale("CUP", units=1)
        order_id = uuid7()

        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3), line("CUP", 2)])

        assert (counters("TEA"), counters("CUP")) == ((5, 0), (1, 0))
        assert status_of(order_id) == "refused"
        missing = outbox.emitted("inventory.StockUnavailable").missing
        assert missing == [MissingLine(sku="CUP", wanted=2, available=1)]

    def test_lists_missing_lines_with_their_previous_stock(self, outbox: Outbox):
        put_on_sale("TEA", units=1)

        services.reserve_stock(order_id=uuid7(), lines=[line("TEA", 2), line("GONE", 1)])

        assert outbox.emitted("inventory.StockUnavailable").missing == [
            MissingLine(sku="GONE", wanted=1, available=0),
            MissingLine(sku="TEA", wanted=2, available=1),
        ]

    def test_sums_lines_of_one_product(self, outbox: Outbox):
        put_on_sale("TEA", units=5)

        services.reserve_stock(order_id=uuid7(), lines=[line("TEA", 3), line("TEA", 3)])

        assert counters("TEA") == (5, 0)
        assert outbox.emitted("inventory.StockUnavailable").missing[0].wanted == 6

    def test_decides_an_order_once(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])

        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])

        assert counters("TEA") == (5, 3)
        assert outbox.emitted("inventory.StockReserved")

    def test_stays_refused_when_stock_arrives(self, outbox: Outbox):
        put_on_sale("TEA", units=1)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 2)])
        services.receive_stock(sku="TEA", quantity=10, reference="late")

        services.reserve_stock(order_id=order_id, lines=[line("TEA", 2)])

        assert counters("TEA") == (11, 0)
        assert outbox.emitted("inventory.StockUnavailable")

    def test_does_nothing_after_the_release(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.release_stock(order_id=order_id)

        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])

        assert counters("TEA") == (5, 0)
        assert status_of(order_id) == "forestalled"
        assert outbox.all_emitted() == []


class TestReleaseStock:
    def test_makes_the_units_available_again(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])

        services.release_stock(order_id=order_id)

        assert counters("TEA") == (5, 0)
        assert outbox.emitted("inventory.StockReleased").lines == [line("TEA", 3)]

    def test_acts_once(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        first, second = uuid7(), uuid7()
        services.reserve_stock(order_id=first, lines=[line("TEA", 2)])
        services.reserve_stock(order_id=second, lines=[line("TEA", 2)])
        services.release_stock(order_id=first)

        services.release_stock(order_id=first)

        assert counters("TEA") == (5, 2)
        assert outbox.emitted("inventory.StockReleased")

    def test_emits_nothing_after_a_refusal(self, outbox: Outbox):
        put_on_sale("TEA", units=1)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 2)])

        services.release_stock(order_id=order_id)

        assert status_of(order_id) == "refused"
        assert outbox.all_emitted("inventory.StockReleased") == []

    def test_refuses_shipped_stock(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])
        services.issue_stock(order_id=order_id)

        with pytest.raises(Reservation.InvalidTransition):
            services.release_stock(order_id=order_id)

        assert counters("TEA") == (2, 0)


class TestIssueStock:
    def test_issues_the_units_once(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])

        services.issue_stock(order_id=order_id)
        services.issue_stock(order_id=order_id)

        assert counters("TEA") == (2, 0)
        assert outbox.emitted("inventory.StockIssued").lines == [line("TEA", 3)]

    def test_refuses_stock_that_was_not_reserved(self, outbox: Outbox):
        order_id = uuid7()

        with pytest.raises(Reservation.InvalidTransition):
            services.issue_stock(order_id=order_id)

        assert not Reservation.objects.exists()

    def test_fails_if_the_counters_do_not_match(self, outbox: Outbox):
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])
        Stock.objects.update(reserved=0)

        with pytest.raises(
            services.CounterMismatch,
            match=r"fewer than the 3 units of order .*\. Run `manage.py recon",
        ):
            services.issue_stock(order_id=order_id)

        assert status_of(order_id) == "reserved"


class TestStockThatWentBack:
    """All units of the order were refunded and returned before."""

    @pytest.mark.parametrize(
        ("end", "event", "words"),
        [
            (services.release_stock, "inventory.StockReleased", "No stock released: all units"),
            (
                services.issue_stock,
                "inventory.StockIssued",
                "No stock issued for the parcel: all units",
            ),
        ],
    )
    def test_is_described_in_words(self, outbox: Outbox, end: Any, event: str, words: str):
        """Failed: the timeline had "Stock released: ", without any units."""
        put_on_sale("TEA", units=5)
        order_id = uuid7()
        services.reserve_stock(order_id=order_id, lines=[line("TEA", 3)])
        services.return_stock(order_id=order_id, refund_id=uuid7(), lines=[line("TEA", 3)])

        end(order_id=order_id)

        assert outbox.emitted(event).lines == []
        assert outbox.emitted(event).in_words() == f"{words} went back to stock before"
        assert counters("TEA") == (5, 0)


class TestReceiveStock:
    def test_counts_a_reference_once(self):
        put_on_sale("TEA", units=0)

        assert services.receive_stock(sku="TEA", quantity=7, reference="note 1") is True
        assert services.receive_stock(sku="TEA", quantity=7, reference="note 1") is False

        assert counters("TEA") == (7, 0)

    def test_requires_at_least_one_unit(self):
        put_on_sale("TEA", units=0)

        with pytest.raises(ValueError, match="at least 1"):
            services.receive_stock(sku="TEA", quantity=0, reference="note 1")


class TestAddProduct:
    def test_does_not_change_an_existing_product(self):
        put_on_sale("TEA", units=5, price=500)

        services.add_product(sku="TEA", name="Other", unit_price=Money(amount=1, currency="JPY"))

        assert Product.objects.get().unit_price == Money(amount=500, currency="JPY")
        assert counters("TEA") == (5, 0)


class TestLedger:
    def test_sums_to_the_counters_after_each_kind_of_movement(self, outbox: Outbox):
        put_on_sale("TEA", units=20)
        shipped, released, kept, refused = uuid7(), uuid7(), uuid7(), uuid7()
        for order_id, quantity in ((shipped, 3), (released, 4), (kept, 5), (refused, 99)):
            services.reserve_stock(order_id=order_id, lines=[line("TEA", quantity)])

        services.issue_stock(order_id=shipped)
        services.release_stock(order_id=released)

        assert counters("TEA") == ledger("TEA") == (17, 5)


class TestCounters:
    @pytest.mark.parametrize(("on_hand", "reserved"), [(5, 6), (5, -1), (-1, 0)])
    def test_refuse_impossible_values(self, on_hand: int, reserved: int):
        put_on_sale("TEA", units=5)

        with pytest.raises(IntegrityError), transaction.atomic():
            Stock.objects.filter(pk="TEA").update(on_hand=on_hand, reserved=reserved)


class TestThePriceOfAProduct:
    def test_is_at_least_one_minor_unit(self):
        with pytest.raises(ValueError, match="at least one minor unit"):
            services.add_product(
                sku="GIFT", name="Gift", unit_price=Money(amount=0, currency="JPY")
            )


class TestTheCurrencyOfAProduct:
    @pytest.mark.parametrize("currency", ["ISK", "KWD"])
    def test_is_refused_if_the_gateway_takes_no_exact_amounts(
        self, settings: Settings, currency: str
    ):
        """Seen to be sold, and paid with a hundredth of its price."""
        settings.GATEWAY = "stripe"
        price = Money(amount=5000, currency=currency)

        with pytest.raises(ValueError, match=f"in {currency}"):
            services.add_product(sku="GIFT", name="Gift", unit_price=price)

        settings.GATEWAY = "bank"
        assert services.add_product(sku="GIFT", name="Gift", unit_price=price).unit_price == price


class TestAProductWithoutAPrice:
    def test_is_not_for_sale(self):
        """An earlier release accepted it. Seen to be ordered, and never paid."""
        put_on_sale("TEA")
        Product.objects.update(price=0)

        assert queries.price_list(["TEA"]) == {}
        assert not queries.catalogue().exists()


class LinesInEnglishOrder(list[ReservationLine]):
    """The lines of a reservation as a database with the locale en_US sorts them."""

    def exclude(self, **_: object) -> LinesInEnglishOrder:
        return self

    def order_by(self, *_: str) -> LinesInEnglishOrder:
        return self


class TestTheOrderOfLocks:
    def test_does_not_depend_on_the_collation_of_the_database(self):
        """Seen to lock "a1" first for a release, and "B1" for a reservation."""
        lines = LinesInEnglishOrder(
            [ReservationLine(product_id=sku, quantity=1) for sku in ("a1", "B1")]
        )

        held = services._lines_of(SimpleNamespace(lines=lines))  # type: ignore[arg-type]  # it reads them only

        assert held == services._by_product(held)
