from __future__ import annotations

import pytest

from tests.chaos.faults import SHOP
from tests.chaos.schedule import schedule


class TestTheSchedule:
    def test_is_the_same_for_the_same_seed(self):
        kinds = SHOP.chosen("", database="postgresql")

        first = schedule(seed=7, seconds=300, kinds=kinds)

        assert first == schedule(seed=7, seconds=300, kinds=kinds)
        assert first != schedule(seed=8, seconds=300, kinds=kinds)

    def test_contains_every_fault_and_ends_in_time(self):
        kinds = SHOP.chosen("", database="postgresql")

        acts = schedule(seed=7, seconds=300, kinds=kinds)

        assert {act.fault for act in acts} == kinds.keys()
        assert all(act.at > 0 and act.at + act.lasts <= 300 for act in acts)

    def test_contains_only_the_chosen_faults(self):
        kinds = SHOP.chosen("broker,poison", database="sqlite")

        acts = schedule(seed=7, seconds=100, kinds=kinds)

        assert {act.fault for act in acts} == {*SHOP.groups["broker"], "poison"}

    def test_contains_the_faults_that_a_database_supports(self):
        sqlite, postgresql = (SHOP.chosen("", database=kind) for kind in ("sqlite", "postgresql"))

        assert postgresql.keys() - sqlite.keys() == {"cut_database", "restart_database"}
        assert sqlite.keys() | postgresql.keys() == SHOP.by_name.keys()

    def test_refuses_an_unknown_fault(self):
        with pytest.raises(KeyError, match="earthquake"):
            SHOP.chosen("kill,earthquake", database="sqlite")
