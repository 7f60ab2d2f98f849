"""The 24 orders can end as they must, with what there is in stock and what the bank knows."""

from __future__ import annotations

from collections import Counter

from payments.simulator import faults
from shop.demo.result import ORDERS
from shop.demo.scenarios import RACE, SCENARIOS, SHIPPABLE, CancelTime
from shop.up.credentials import CUSTOMERS
from shop.up.demo import PRODUCTS

SPECS = [spec for scenario in SCENARIOS for spec in scenario.specs]
STOCK = {sku: quantity for sku, _, _, quantity in PRODUCTS}
PLAIN_TOKENS = {"tok_success", "tok_declined", "tok_declined_at_capture"}


class TestTheWishes:
    def test_are_as_many_as_the_last_line_says(self):
        assert len(SPECS) == ORDERS

    def test_come_from_customers_that_there_are(self):
        assert {spec.customer for spec in SPECS} == set(CUSTOMERS)

    def test_pay_with_what_the_bank_knows(self):
        tokens = {spec.pays_with for spec in SPECS} - PLAIN_TOKENS

        assert [token for token in tokens if not faults.is_known(token)] == []

    def test_cancel_at_every_stage(self):
        assert {spec.cancel_at for spec in SPECS if spec.cancel_at} == set(CancelTime)

    def test_find_enough_where_the_stock_is_not_what_they_are_about(self):
        wanted: Counter[str] = Counter()
        for spec in SPECS:
            if spec.end != "out_of_stock":
                wanted.update(spec.lines)

        assert {sku for sku, number in wanted.items() if number > STOCK[sku]} == set()

    def test_find_too_little_where_that_is_what_they_are_about(self):
        short = [spec for scenario in SCENARIOS if not scenario.race for spec in scenario.specs]

        for spec in short:
            is_short = any(number > STOCK[sku] for sku, number in spec.lines.items())
            assert is_short == (spec.end == "out_of_stock")

    def test_race_for_what_is_enough_for_some_and_not_for_one_more(self):
        winners = RACE.ends[SHIPPABLE]

        assert winners * 12 <= STOCK["KETTLE-IRON"] < (winners + 1) * 12
        assert all(spec.lines == {"KETTLE-IRON": 12} for spec in RACE.specs)
