"""The page of performance shows the latest run on each processor, and explains each row."""

from __future__ import annotations

import pytest

from benchmarks import page, sizing
from benchmarks.rows import all_rows
from tests.docs.pages import Page, names_in

PAGE = Page("docs/performance.md")
EVENTS = Page("docs/reference/events.md")
#: How many of each event an order emits until it is shipped.
EMITTED = {
    "orders.OrderPlaced": 1,
    "inventory.StockReserved": 1,
    "payments.PaymentAuthorized": 1,
    "orders.OrderConfirmed": 1,
    "payments.PaymentCaptured": 1,
    "orders.OrderReadyToShip": 1,
    "orders.OrderShipped": 1,
    "inventory.StockIssued": 1,
    "payments.BankReported": 2,
}


@pytest.mark.parametrize("name", ["ratios", "figures", "sizing", "minutes"])
class TestAMeasuredPart:
    def test_equals_the_result_of_the_latest_run(self, name):
        assert page.part_of(PAGE.text, name) == page.parts(*page.results())[name]


class TestTheRows:
    def test_name_their_limiting_resource(self):
        shown = [names_in(row[0])[0] for row in PAGE.table("What bounds each figure")]

        assert sorted(shown) == sorted(row.name for row in all_rows() if not row.is_extra)


class TestSizing:
    def test_counts_the_events_and_deliveries_of_a_shipped_order(self):
        subscribers = {
            names_in(row[0])[0]: names_in(row[2])
            for row in EVENTS.table("Events and their subscribers")
        }

        assert sum(EMITTED.values()) == sizing.EVENTS
        assert sum(n * len(subscribers[name]) for name, n in EMITTED.items()) == sizing.DELIVERIES
