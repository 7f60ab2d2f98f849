"""A loss of PostgreSQL excuses the orders that it names, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.chaos.customers import address_of
from tests.chaos.facts import Facts
from tests.chaos.history import Call
from tests.chaos.hosts import loss
from tests.chaos.hosts.databases import Databases, databases
from tests.chaos.hosts.loss import Rows, check, unseen
from tests.chaos.reconcile import is_excused
from tests.chaos.test_checker import (
    CANCELLED,
    SHIPPED,
    calls,  # noqa: F401  a fixture
    facts,  # noqa: F401  a fixture
    lose_an_effect,
    move_twice,
    owe_something,
    place_twice,
    survive_the_poison,
)
from tests.cluster.network import Network


def loss_of(order: str, key: str) -> Rows:
    return Rows(Counter({(order, address_of(key), "0 shipped"): 1}))


@pytest.fixture
def after_a_loss(facts: Facts) -> Facts:  # noqa: F811  the fixture
    """The database has lost the first order. Bank and mail server remember it."""
    facts.moves = [move for move in facts.moves if move[0] != SHIPPED]
    facts.events = {pair: n for pair, n in facts.events.items() if pair[1] != SHIPPED}
    facts.emails = {id: one for id, one in facts.emails.items() if one[0] != address_of("key-1")}
    facts.shelf = facts.ledger = {"TEA": (10, 2)}
    for kept in (facts.orders, facts.reservations, facts.lines):
        kept.pop(SHIPPED)
    facts.refunds = {}
    return facts


@pytest.mark.sqlite
class TestALoss:
    def test_excuses_its_orders(self, calls: list[Call], after_a_loss: Facts):  # noqa: F811
        assert check(calls, after_a_loss, [loss_of(SHIPPED, "key-1")]) == []

    def test_excuses_no_other_order(self, calls: list[Call], after_a_loss: Facts):  # noqa: F811
        found = check(calls, after_a_loss, [loss_of(CANCELLED, "key-2")])

        assert {finding.kind for finding in found} >= {"lost", "duplicated"}

    @pytest.mark.parametrize(
        "corrupt", [lose_an_effect, move_twice, owe_something, place_twice, survive_the_poison]
    )
    def test_excuses_nothing_in_the_database(
        self,
        calls: list[Call],  # noqa: F811
        facts: Facts,  # noqa: F811
        corrupt: Callable[[Facts], None],
    ):
        corrupt(facts)

        assert check(calls, facts, [loss_of(SHIPPED, "key-1")])


class TestADifferenceOfTheBooks:
    """An authorization of the bank whose row PostgreSQL has lost."""

    def test_is_excused_for_an_order_of_a_loss(self):
        assert is_excused(report("payments.bank_matches_payments", "0a-1b"), {"0a1b", "2c"})

    def test_is_not_excused_for_another_order(self):
        assert not is_excused(report("payments.bank_matches_payments", "0a-1b", "3d"), {"0a1b"})

    def test_is_not_excused_within_the_database(self):
        assert not is_excused(report("orders.history_is_continuous", "0a-1b"), {"0a1b"})

    def test_is_not_excused_if_it_is_not_shown(self):
        shown = report("payments.bank_matches_payments", "0a-1b", differences=2)

        assert not is_excused(shown, {"0a1b"})


def report(name: str, *keys: str, differences: int | None = None) -> str:
    """Return the report of a reconciliation with one violated invariant."""
    other = {"name": "orders.status_matches_history", "differences": 0, "difference_examples": []}
    found = {
        "name": name,
        "differences": len(keys) if differences is None else differences,
        "difference_examples": [{"key": key} for key in keys],
    }
    return json.dumps({"invariants": [other, found]})


@pytest.mark.sqlite
class TestAPlantedError:
    def test_is_found_also_after_a_loss(self, calls: list[Call], facts: Facts):  # noqa: F811
        assert unseen(calls, facts, [loss_of(CANCELLED, "key-2")]) == []

    def test_needs_an_effect(self, calls: list[Call], facts: Facts):  # noqa: F811
        facts.changes, facts.effects = {}, []

        found = unseen(calls, facts, [])

        assert found == ["The checker does not find a planted error: a lost effect."]

    def test_needs_an_order_that_no_loss_concerns(self, calls: list[Call], facts: Facts):  # noqa: F811
        losses = [loss_of(SHIPPED, "key-1"), loss_of(CANCELLED, "key-2")]

        assert len(unseen(calls, facts, losses)) == 1


@pytest.fixture
def pair(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Databases]:
    """A primary with a table, and its standby."""
    monkeypatch.setattr(loss, "STATEMENTS", ("SELECT number, '', '' FROM line",))
    with TemporaryDirectory(prefix="shop-chaos-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        with databases(network, (network["one"], network["two"]), Path(folder)) as pair:
            write(pair, "CREATE TABLE line (number int)")
            yield pair


def write(pair: Databases, statement: str) -> None:
    with psycopg.connect(pair.patient_url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.mark.postgresql
@pytest.mark.processes
@pytest.mark.timeout(600)
class TestAFailover:
    def test_to_a_synchronous_standby_loses_nothing(self, pair: Databases):
        write(pair, "INSERT INTO line VALUES (1)")

        pair.fail_over(killed=True, is_loss_excused=False)

        write(pair, "INSERT INTO line VALUES (2)")
        assert pair.primary.rows().orders == {"1", "2"}

    def test_to_an_asynchronous_standby_names_what_it_lost(self, pair: Databases):
        """The old primary then follows, and the new one is lost, too."""
        write(pair, "INSERT INTO line VALUES (1)")
        pair.replicate(synchronously=False)
        pair.stop_replication()
        write(pair, "INSERT INTO line VALUES (2)")

        pair.fail_over(killed=False, is_loss_excused=True)
        pair.take_back()
        write(pair, "INSERT INTO line VALUES (3)")
        pair.fail_over(killed=False, is_loss_excused=False)

        assert [lost.orders for lost in pair.losses] == [{"2"}]
        assert pair.primary.rows().orders == {"1", "3"}
