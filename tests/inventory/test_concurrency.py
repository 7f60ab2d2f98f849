from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from uuid import UUID

import pytest
from django.db import transaction
from uuid_utils.compat import uuid7

from inventory import services
from inventory.models import Reservation
from outbox.testing import Outbox
from tests.inventory.factories import counters, ledger, line, put_on_sale
from tests.threads import crowd, run_together, wait_until_blocked


@pytest.mark.django_db(transaction=True)
class TestManyConcurrentBuyers:
    def test_get_exactly_the_last_five_units(self, outbox: Outbox):
        """Seen to fail with the condition removed from `StockQuerySet.shift`."""
        put_on_sale("TEA", units=5)

        run_together(
            [
                partial(services.reserve_stock, order_id=uuid7(), lines=[line("TEA", 1)])
                for _ in range(20)
            ]
        )

        assert counters("TEA") == ledger("TEA") == (5, 5)
        assert len(outbox.all_emitted("inventory.StockReserved")) == 5
        assert len(outbox.all_emitted("inventory.StockUnavailable")) == 15

    def test_of_the_same_products_do_not_deadlock(self, outbox: Outbox):
        """Seen to fail on PostgreSQL ("deadlock detected") with `sorted` removed."""
        skus = [f"TEA{number}" for number in range(8)]
        for sku in skus:
            put_on_sale(sku, units=100)
        lines = [line(sku, 1) for sku in skus]

        run_together(
            [
                partial(
                    services.reserve_stock,
                    order_id=uuid7(),
                    lines=lines if number % 2 else lines[::-1],
                )
                for number in range(20)
            ]
        )

        assert {counters(sku) for sku in skus} == {(100, 20)}
        assert len(outbox.all_emitted("inventory.StockReserved")) == 20

    def test_that_reserve_and_release_one_order_leave_nothing_reserved(self, outbox: Outbox):
        """Whichever comes first, rule 17 holds."""
        put_on_sale("TEA", units=5)
        orders = [uuid7() for _ in range(10)]

        for order_id in orders:
            run_together(
                [
                    partial(services.reserve_stock, order_id=order_id, lines=[line("TEA", 1)]),
                    partial(services.release_stock, order_id=order_id),
                ]
            )

        assert counters("TEA") == ledger("TEA") == (5, 0)


@pytest.mark.django_db(transaction=True)
class TestTwoHundredBuyers:
    def test_buy_exactly_the_last_fifty_units(self, outbox: Outbox):
        """Seen to fail with the condition removed from `StockQuerySet.shift`."""
        put_on_sale("TEA", units=50)

        crowd(
            [
                partial(services.reserve_stock, order_id=uuid7(), lines=[line("TEA", 1)])
                for _ in range(200)
            ],
            at_most=80,
        )

        assert counters("TEA") == ledger("TEA") == (50, 50)
        assert len(outbox.all_emitted("inventory.StockReserved")) == 50
        assert len(outbox.all_emitted("inventory.StockUnavailable")) == 150

    def test_of_two_products_do_not_deadlock(self, outbox: Outbox):
        for sku in ("CUP", "TEA"):
            put_on_sale(sku, units=50)
        both = [line("TEA", 1), line("CUP", 1)]

        crowd(
            [
                partial(services.reserve_stock, order_id=uuid7(), lines=both if odd else both[::-1])
                for odd in [0, 1] * 50
            ],
            at_most=80,
        )

        assert {counters(sku) for sku in ("CUP", "TEA")} == {(50, 50)}
        assert len(outbox.all_emitted("inventory.StockReserved")) == 50


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestAParcelThatIsCancelledWhileItIsShipped:
    def test_is_issued_or_released_and_never_both(self, outbox: Outbox):
        """Rule 16. Seen to do both on PostgreSQL without select_for_update in `locked`.

        A third transaction holds the row until both wait for it, so no luck is needed.
        """
        put_on_sale("TEA", units=9)
        order_id, other = uuid7(), uuid7()
        for each in (order_id, other):
            services.reserve_stock(order_id=each, lines=[line("TEA", 2)])
        moves = [services.release_stock, services.issue_stock]

        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                Reservation.objects.select_for_update().get(pk=order_id)
                both = pool.submit(
                    run_together, [partial(unless_too_late, move, order_id) for move in moves]
                )
                wait_until_blocked(2)
            both.result()

        released = outbox.all_emitted("inventory.StockReleased")
        issued = outbox.all_emitted("inventory.StockIssued")
        assert len(released + issued) == 1
        assert counters("TEA") == ledger("TEA") == ((9, 2) if released else (7, 2))


def unless_too_late(move: Callable[..., None], order_id: UUID) -> None:
    with suppress(Reservation.InvalidTransition):
        move(order_id=order_id)
