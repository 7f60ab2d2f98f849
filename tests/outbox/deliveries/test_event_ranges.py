"""Ranges of events, by which PostgreSQL leaves out partitions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import Settings

from outbox import subscribe
from outbox.deliveries.event_ranges import only, range_of, spanning, within
from outbox.models import Attempt, Delivery, Event
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from tests.outbox.drive import expire_leases_and_backoffs, run_messages, run_pass, states

#: A condition of a range, in our own statements and in those of the ORM, which sorts conditions.
_OURS = re.compile(r" AND (?:\w\.)?(?:event_id|seq) (?:BETWEEN N AND N|= N)")
_COLUMN = r'"outbox_delivery"\."event_id"'
_OF_ORM = re.compile(rf"{_COLUMN} (?:>=|<=|=) %s AND | AND {_COLUMN} = %s")
#: On PostgreSQL, an UPDATE with a range locks in the order of ids, and a target keeps its event.
_IN_ORDER = re.compile(
    r"id = ANY \(ARRAY\(SELECT id FROM outbox_delivery WHERE (.*?) ORDER BY id "
    r"FOR NO KEY UPDATE\)\)",
    re.DOTALL,
)
_OF_A_TARGET = "SELECT N FROM outbox_event WHERE seq = N FOR KEY SHARE"
_BRACKETS = re.compile(r'WHERE \(("\w+"\."\w+" = %s)\)$')
_RETURNED = re.compile(r", event_id(?=$| FROM outbox_delivery\b)")


@pytest.fixture
def partitioned(settings: Settings) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "PARTITION": "day"}


@pytest.mark.usefixtures("partitioned")
class TestARange:
    def test_has_the_lowest_and_the_highest_event(self):
        assert range_of([5, 3, 9]) == (3, 9)

    def test_of_no_events_is_unknown(self):
        assert range_of([]) is None

    def test_is_not_used_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert range_of([5, 3, 9]) is None

    def test_of_several_ranges_contains_all(self):
        assert spanning([(3, 9), (1, 2), (4, 12)]) == (1, 12)

    def test_of_several_ranges_is_unknown_if_one_is(self):
        assert spanning([(3, 9), None]) is None

    def test_of_no_ranges_is_unknown(self):
        assert spanning([]) is None


class TestACondition:
    @pytest.mark.parametrize(
        ("events", "text", "arguments"),
        [
            (None, "", {}),
            ((3, 9), " AND d.event_id BETWEEN 3 AND 9", {"event_id__gte": 3, "event_id__lte": 9}),
            ((3, 3), " AND d.event_id = 3", {"event_id": 3}),
        ],
    )
    def test_includes_both_ends(
        self, events: tuple[int, int] | None, text: str, arguments: dict[str, int]
    ):
        assert within(events, "d.event_id") == text
        assert only(events) == arguments

    def test_refuses_what_is_no_number(self):
        """The ends come from a broker's message."""
        with pytest.raises(ValueError, match="Unknown format code"):
            within(("1; DROP TABLE outbox_event", 9))  # type: ignore[arg-type]


@pytest.fixture
def handlers(own_registry: None) -> None:
    """A handler that succeeds, one that fails, an ordered one, one with targets, and a bulk one."""

    @subscribe("shops.Ordered")
    def keep() -> None: ...

    @subscribe("shops.Ordered")
    def refuse() -> None:
        raise ValueError

    @subscribe("shops.Ordered", ordered=True)
    def follow() -> None: ...

    @subscribe("shops.Ordered", bulk=True)
    def keep_all(deliveries: Any) -> None:
        for one in deliveries:
            one.done()

    def receivers() -> list[str]:
        return ["a", "b"]

    @subscribe("shops.Ordered", targets=receivers)
    def send(target: str) -> None: ...


def emit(number: int) -> None:
    outbox = Outbox()
    for _ in range(number):
        outbox.given("shops.Ordered", order_id=uuid4())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("handlers", "partitioned")
class TestAMessage:
    def test_carries_the_range_of_its_deliveries(self):
        emit(3)

        found = run_pass()

        assert max(len(one.pairs) for one in found) == 3
        for one in found:
            rows = Delivery.objects.filter(pk__in=dict(one.pairs)).order_by("event")
            seqs = list(rows.values_list("event", flat=True))
            assert one.events == (seqs[0], seqs[-1])

    def test_of_deliveries_that_are_due_again_carries_it(self):
        emit(1)
        run_messages(run_pass())
        expire_leases_and_backoffs()
        seq = Event.objects.get().seq

        found = run_pass()

        assert {one.handler for one in found} == {"tests.refuse", "tests.send"}
        assert {one.events for one in found} == {(seq, seq)}

    def test_without_the_setting_carries_none(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}
        emit(2)

        assert {one.events for one in run_pass()} == {None}

    def test_is_delivered_as_without_the_setting(self, settings: Settings):
        """Each delivery of a message is in its range, from its start to its receipt."""

        def run(setting: str) -> list[str]:
            settings.OUTBOX = {**settings.OUTBOX, "PARTITION": setting}
            return all_states_of_two_passes()

        assert run("day") == run("")

    def test_of_a_relay_without_the_setting_is_delivered(self):
        emit(2)
        messages = run_pass()

        for one in messages:
            deliver(handler_name=one.handler, pairs=one.pairs, worker="w1")

        assert set(states()) == {"done", "pending"}
        assert Attempt.objects.count() == 2

    def test_starts_no_delivery_outside_of_its_range(self):
        """After a crash of the database, an id may be that of another event's delivery."""
        emit(1)
        [message] = [one for one in run_pass() if one.handler == "tests.keep"]
        assert message.events is not None
        seq, _last = message.events

        deliver(handler_name="tests.keep", pairs=message.pairs, worker="w1", events=(seq + 1,) * 2)

        pk, token = message.pairs[0]
        assert Delivery.objects.filter(pk=pk, state="sent", started_token__lt=token).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("handlers")
class TestWithoutTheSetting:
    def test_each_statement_is_as_with_it_but_without_the_conditions(self, settings: Settings):
        def sent(setting: str) -> list[str]:
            settings.OUTBOX = {**settings.OUTBOX, "PARTITION": setting}
            with recorded() as statements:
                all_states_of_two_passes()
            return statements

        sent("")  # creates subscriptions, and fills caches
        without, with_ranges = sent(""), sent("day")

        assert [one for one in without if stripped(one) != one] == []
        assert [stripped(one) for one in with_ranges if one != _OF_A_TARGET] == without
        assert with_ranges != without


def all_states_of_two_passes() -> list[str]:
    """Deliver three events, let the failed deliveries fail once more, and remove all."""
    emit(3)
    for _ in range(2):
        run_messages(in_order(run_pass))
        expire_leases_and_backoffs()
    found = states()
    for model in (Attempt, Delivery, Event):
        model.objects.all().delete()
    return found


def in_order(work: Callable[[], list[Message]]) -> list[Message]:
    return sorted(work(), key=lambda one: (one.handler, one.pairs))


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Record statements, with N for each number and for each list of numbers."""
    found: list[str] = []

    def record(
        execute: Callable[..., object], sql: str, params: Any, many: bool, context: Any
    ) -> object:
        for one in sql.split(";\n"):
            found.append(re.sub(r"\bN(?:, N)+", "N", re.sub(r"\b\d+\b", "N", one)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        yield found


def stripped(statement: str) -> str:
    """Return a statement without conditions of a range, and without the events of what it sent."""
    without = _RETURNED.sub("", _OF_ORM.sub("", _OURS.sub("", statement)))
    without = _IN_ORDER.sub(r"\1", without)
    # The ORM puts several conditions into brackets, and a single one not.
    return _BRACKETS.sub(r"WHERE \1", without)
