"""The required ends of the 24 orders are possible with the demo's stock and bank."""

from __future__ import annotations

from collections import Counter

from payments.simulator import faults
from shop.demo.result import ORDERS
from shop.demo.scenarios import RACE, SCENARIOS, SHIPPABLE, CancelTime
from shop.up.credentials import CUSTOMERS
from shop.up.demo import PRODUCTS

SPECS = [spec for scenario in SCENARIOS for spec in scenario.specs]
STOCK = {sku: quantity for sku, *_, quantity in PRODUCTS}
PLAIN_TOKENS = {"tok_success", "tok_declined", "tok_declined_at_capture"}


class TestTheOrders:
    def test_have_the_number_in_the_last_line(self):
        assert len(SPECS) == ORDERS

    def test_come_from_customers_of_the_demo_data(self):
        assert {spec.customer for spec in SPECS} == set(CUSTOMERS)

    def test_have_payment_methods_of_the_simulator(self):
        tokens = {spec.pays_with for spec in SPECS} - PLAIN_TOKENS

        assert [token for token in tokens if not faults.is_known(token)] == []

    def test_cancel_at_every_stage(self):
        assert {spec.cancel_at for spec in SPECS if spec.cancel_at} == set(CancelTime)

    def test_find_enough_stock_unless_they_test_its_lack(self):
        wanted: Counter[str] = Counter()
        for spec in SPECS:
            if spec.end != "out_of_stock":
                wanted.update(spec.lines)

        assert {sku for sku, number in wanted.items() if number > STOCK[sku]} == set()

    def test_find_too_little_stock_if_they_test_its_lack(self):
        short = [spec for scenario in SCENARIOS if not scenario.race for spec in scenario.specs]

        for spec in short:
            is_short = any(number > STOCK[sku] for sku, number in spec.lines.items())
            assert is_short == (spec.end == "out_of_stock")

    def test_race_for_stock_that_suffices_for_some(self):
        winners = RACE.ends[SHIPPABLE]

        assert winners * 12 <= STOCK["KETTLE-IRON"] < (winners + 1) * 12
        assert all(spec.lines == {"KETTLE-IRON": 12} for spec in RACE.specs)
