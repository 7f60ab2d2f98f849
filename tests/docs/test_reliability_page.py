"""The page of guarantees names existing tests, and each group of faults and sabotage."""

from __future__ import annotations

from tests.chaos.faults import SHOP
from tests.chaos.proving.sabotage import NAMES
from tests.docs.pages import Page, names_in
from tests.docs.test_rules_page import is_there

PAGE = Page("docs/reliability.md")


class TestThePageOfReliability:
    def test_names_an_existing_test_for_each_guarantee(self):
        named = [names_in(row[5]) for row in PAGE.table("What is guaranteed")]

        assert [names for names in named if len(names) != 1 or not is_there(names[0])] == []

    def test_has_each_group_of_faults(self):
        shown = [names_in(row[0])[0] for row in PAGE.table("Chaos")]

        assert sorted(shown) == sorted(SHOP.groups)

    def test_has_each_sabotage(self):
        shown = [names_in(row[0])[0] for row in PAGE.table("That it would notice")]

        assert sorted(shown) == sorted(NAMES)
