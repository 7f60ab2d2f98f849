"""The condition of a key: dead, failing, held, overdue, in progress or complete."""

from __future__ import annotations

import os
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox import DomainEvent, subscribe
from outbox.models import Delivery, Event, Subscription
from outbox.monitor import conditions
from outbox.monitor.conditions import (
    TROUBLED,
    Condition,
    KeysFound,
    conditions_of_keys,
    keys_in,
)
from outbox.testing import Outbox
from tests.outbox.history import store
from tests.outbox.query_cost import rows_read

#: Number of stored events; EVENTS=800000 for 100,000 keys.
STORED = int(os.environ.get("EVENTS", "4000"))
#: Keys of a page of a list. In a short history they are few, or a scan would be cheaper.
KEYS = min(100, STORED // 400)
#: For one query, as in the tests of the admin's pages.
MOST_WORK = {"postgresql": 2000, "sqlite": 20_000}


class Boxed(DomainEvent, key="box_id"):
    """A box is packed."""

    box_id: UUID


@pytest.fixture
def broken() -> list[Exception]:
    """Exceptions that the handler raises; none at first."""
    return []


@pytest.fixture
def outbox(own_registry: None, broken: list[Exception]) -> Outbox:
    @subscribe("tests.Boxed")
    def weigh_box() -> None:
        if broken:
            raise broken[0]

    return Outbox()


def boxed(outbox: Outbox) -> str:
    return outbox.given("tests.Boxed", box_id=uuid4()).key


def condition(key: str) -> Condition | None:
    return conditions_of_keys([key]).get(key)


class TestTheConditionOfAKey:
    def test_is_none_without_events(self, outbox: Outbox) -> None:
        assert condition("nothing") is None

    def test_is_in_progress_until_the_relay_and_the_worker_have_run(self, outbox: Outbox) -> None:
        key = boxed(outbox)

        assert condition(key) == Condition.IN_PROGRESS

    def test_is_complete_when_all_deliveries_are_done(self, outbox: Outbox) -> None:
        key = boxed(outbox)
        outbox.deliver_all()

        assert condition(key) == Condition.COMPLETE

    def test_is_failing_from_the_first_failed_attempt_until_it_succeeds(
        self, outbox: Outbox, broken: list[Exception]
    ) -> None:
        key = boxed(outbox)
        broken.append(ZeroDivisionError("division by zero"))
        outbox.deliver_all(raise_errors=False)
        assert condition(key) == Condition.FAILING

        broken.clear()
        outbox.let_pass(timedelta(hours=3))
        outbox.deliver_all()
        assert condition(key) == Condition.COMPLETE

    def test_is_dead_whatever_the_other_deliveries_are(self, outbox: Outbox) -> None:
        key = boxed(outbox)
        outbox.deliver_all()
        Delivery.objects.update(state="dead")

        assert condition(key) == Condition.DEAD

    @pytest.mark.parametrize("stop", ["paused_at", "breaker_opened_at"])
    def test_is_held_while_its_handler_is_paused_or_its_breaker_open(
        self, outbox: Outbox, stop: str
    ) -> None:
        key = boxed(outbox)
        outbox.deliver_all()
        Delivery.objects.update(state="pending")
        Subscription.objects.update(**{stop: timezone.now()})

        assert condition(key) == Condition.HELD

    @pytest.mark.parametrize("state", ["pending", "sent"])
    def test_is_overdue_a_minute_after_a_delivery_was_due(self, outbox: Outbox, state: str) -> None:
        key = boxed(outbox)
        outbox.deliver_all()
        Delivery.objects.update(state=state, due_at=timezone.now() - timedelta(seconds=70))

        assert condition(key) == Condition.OVERDUE

    def test_is_overdue_if_its_event_waits_long_for_the_relay(self, outbox: Outbox) -> None:
        key = boxed(outbox)
        Event.objects.update(emitted_at=timezone.now() - timedelta(minutes=2))

        assert condition(key) == Condition.OVERDUE
        assert keys_in(Condition.OVERDUE) == KeysFound([key], is_cut=False)


class TestTheKeysInACondition:
    def test_are_those_whose_condition_it_is(self, outbox: Outbox, broken: list[Exception]) -> None:
        boxed(outbox)
        outbox.deliver_all()
        broken.append(ZeroDivisionError("division by zero"))
        failing = boxed(outbox)
        outbox.deliver_all(raise_errors=False)

        found = {one: keys_in(one).keys for one in TROUBLED}

        assert found == {
            Condition.DEAD: [],
            Condition.FAILING: [failing],
            Condition.HELD: [],
            Condition.OVERDUE: [],
        }

    def test_may_be_others_if_too_many_deliveries_are_owed(
        self, outbox: Outbox, broken: list[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seen to fail: the limit of owed deliveries cut the keys without a sign."""
        monkeypatch.setattr(conditions, "_MOST_ROWS", 2)
        broken.append(ZeroDivisionError("division by zero"))
        key = boxed(outbox)
        outbox.deliver_all(raise_errors=False)
        assert keys_in(Condition.FAILING) == KeysFound([key], is_cut=False)
        boxed(outbox)
        outbox.deliver_all(raise_errors=False)

        assert keys_in(Condition.FAILING).is_cut

    def test_with_an_open_breaker_are_held_only_if_they_have_not_failed(
        self, outbox: Outbox, broken: list[Exception]
    ) -> None:
        broken.append(ZeroDivisionError("division by zero"))
        failing = boxed(outbox)
        outbox.deliver_all(raise_errors=False)
        now = timezone.now()
        Subscription.objects.update(
            breaker_opened_at=now, breaker_probe_at=now + timedelta(hours=1)
        )
        waiting = boxed(outbox)
        outbox.deliver_all()

        assert keys_in(Condition.FAILING).keys == [failing]
        assert keys_in(Condition.HELD).keys == [waiting]


class TestTheCost:
    @pytest.fixture
    def history(self, outbox: Outbox) -> str:
        return store(STORED, names=("tests.Boxed",), rare="tests.Boxed").key

    @pytest.mark.parametrize("asked", TROUBLED)
    def test_of_the_keys_in_a_condition_does_not_grow_with_history(
        self, history: str, asked: Condition
    ) -> None:
        with CaptureQueriesContext(connection) as captured:
            keys_in(asked)

        assert max(rows_read(query["sql"]) for query in captured) <= MOST_WORK[connection.vendor]

    def test_of_a_page_of_keys_is_two_queries_by_an_index(self, history: str) -> None:
        keys = [history, *(f"k{number}" for number in range(1, KEYS))]
        with CaptureQueriesContext(connection) as captured:
            found = conditions_of_keys(keys)

        selects = [query["sql"] for query in captured if "outbox_" in query["sql"]]
        assert Condition.COMPLETE in found.values()
        assert len(selects) == 2
        # Eight events for each key, and their deliveries.
        most = {"postgresql": KEYS * 8 * 3, "sqlite": KEYS * 8 * 300}
        assert max(map(rows_read, selects)) <= most[connection.vendor]
