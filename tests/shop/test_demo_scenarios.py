"""The 24 orders can end as they must, with what there is in stock and what the bank knows."""

from __future__ import annotations

from collections import Counter

from payments.simulator import faults
from shop.demo.scenarios import CHAPTERS, RACE, SHIPPABLE, Change
from shop.demo.verdict import ORDERS
from shop.up.credentials import CUSTOMERS
from shop.up.demo import PRODUCTS

WISHES = [wish for chapter in CHAPTERS for wish in chapter.wishes]
STOCK = {sku: quantity for sku, _, _, quantity in PRODUCTS}
PLAIN_TOKENS = {"tok_success", "tok_declined", "tok_declined_at_capture"}


class TestTheWishes:
    def test_are_as_many_as_the_last_line_says(self):
        assert len(WISHES) == ORDERS

    def test_come_from_customers_that_there_are(self):
        assert {wish.customer for wish in WISHES} == set(CUSTOMERS)

    def test_pay_with_what_the_bank_knows(self):
        tokens = {wish.pays_with for wish in WISHES} - PLAIN_TOKENS

        assert [token for token in tokens if not faults.is_known(token)] == []

    def test_cancel_at_every_stage(self):
        assert {wish.change for wish in WISHES if wish.change} == set(Change)

    def test_find_enough_where_the_stock_is_not_what_they_are_about(self):
        wanted: Counter[str] = Counter()
        for wish in WISHES:
            if wish.end != "out_of_stock":
                wanted.update(wish.lines)

        assert {sku for sku, number in wanted.items() if number > STOCK[sku]} == set()

    def test_find_too_little_where_that_is_what_they_are_about(self):
        short = [wish for chapter in CHAPTERS if not chapter.race for wish in chapter.wishes]

        for wish in short:
            is_short = any(number > STOCK[sku] for sku, number in wish.lines.items())
            assert is_short == (wish.end == "out_of_stock")

    def test_race_for_what_is_enough_for_some_and_not_for_one_more(self):
        winners = RACE.ends[SHIPPABLE]

        assert winners * 12 <= STOCK["KETTLE-IRON"] < (winners + 1) * 12
        assert all(wish.lines == {"KETTLE-IRON": 12} for wish in RACE.wishes)
