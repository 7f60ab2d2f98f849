"""The page of guarantees names existing tests. The page of chaos has each fault and sabotage."""

from __future__ import annotations

from tests.chaos.edges import sabotage as of_edges
from tests.chaos.edges.faults import EDGES
from tests.chaos.faults import SHOP
from tests.chaos.hosts.faults import HOSTS
from tests.chaos.proving.sabotage import NAMES
from tests.docs.pages import Page, names_in
from tests.docs.test_rules_page import is_there

PAGE = Page("docs/reliability.md")
CHAOS = Page("docs/chaos.md")


class TestThePageOfReliability:
    def test_names_an_existing_test_for_each_guarantee(self):
        named = [names_in(row[5]) for row in PAGE.table("What is guaranteed")]

        assert [names for names in named if len(names) != 1 or not is_there(names[0])] == []

    def test_names_an_existing_test_for_each_guarantee_at_the_edges(self):
        named = [names_in(row[-1]) for row in PAGE.table("At the edges")]

        assert [names for names in named if len(names) != 1 or not is_there(names[0])] == []


class TestThePageOfChaos:
    def test_has_each_group_of_faults_at_the_edges(self):
        shown = [names_in(row[0])[0] for row in CHAOS.table("Chaos at the edges")]

        assert sorted(shown) == sorted(EDGES.groups)

    def test_has_each_sabotage_at_the_edges(self):
        table = CHAOS.table("Does the checker find errors at the edges?")

        assert sorted(names_in(row[0])[0] for row in table) == sorted(of_edges.NAMES)

    def test_has_each_group_of_faults_of_hosts(self):
        shown = [names_in(row[0])[0] for row in CHAOS.table("Chaos on several hosts")]

        assert sorted(shown) == sorted(HOSTS.groups)

    def test_has_each_group_of_faults(self):
        shown = [names_in(row[0])[0] for row in CHAOS.table("The shop under faults")]

        assert sorted(shown) == sorted(SHOP.groups)

    def test_has_each_sabotage(self):
        shown = [names_in(row[0])[0] for row in CHAOS.table("Does the checker find errors?")]

        assert sorted(shown) == sorted(NAMES)
