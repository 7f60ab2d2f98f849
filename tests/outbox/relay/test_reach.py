"""The relay reads the newest partitions, and the older ones while they have work."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from outbox import clock, subscribe
from outbox.models import Delivery, Event
from outbox.partitions.days import PER_DAY, day_at, first_seq
from outbox.relay import reach
from outbox.relay.passes import Pace, relay
from outbox.relay.reach import Reach, newest
from outbox.transports.base import Message
from tests.outbox.converted import acting_as_visitor, convert_days_ago, rows
from tests.outbox.drive import create_deliveries, emit_orders, run_messages, run_pass

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("converted"),
]


@pytest.fixture(autouse=True)
def handler(converted: None) -> None:
    @subscribe("shops.Ordered")
    def keep() -> None: ...


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the older partitions before each pass."""
    monkeypatch.setattr(reach, "_LOOK_SECONDS", 0.0)


def set_seq(last: int) -> None:
    rows(f"SELECT setval('outbox_event_seq_seq', {last})")


def emit_old() -> Event:
    """Emit an event whose number is in the first partition, days before the newest event."""
    ((last,),) = rows("SELECT last_value FROM outbox_event_seq_seq")
    set_seq(7)
    emit_orders()
    set_seq(last)
    return Event.objects.earliest("seq")


def reached() -> tuple[int, int] | None:
    return Reach().events(using="default")


def relayed(pace: Pace | None = None) -> list[Message]:
    messages: list[Message] = []
    relay(publish=messages.append, pace=pace)
    return messages


class TestTheReach:
    def test_is_from_the_day_before_the_newest_event_to_tomorrow(self):
        today = first_seq(day_at(clock.now()))
        emit_orders()

        assert reached() == (today - PER_DAY, today + 2 * PER_DAY - 1)

    def test_begins_at_zero_before_the_sequence_has_jumped(self):
        set_seq(12345)

        first, last = newest(clock.now(), using="default")

        assert first == 0
        assert last >= first_seq(day_at(clock.now()) + timedelta(days=1))

    @pytest.mark.usefixtures("plain")
    def test_contains_the_first_partition_when_the_day_before_has_none(self, plain: None):
        """A transaction may have a number from before the first jump, and commit after it."""
        convert_days_ago(2)  # so the first partition ends with yesterday
        emit_orders()

        first, _last = newest(clock.now(), using="default")

        assert first == 0

    def test_is_everything_for_a_role_that_may_not_read_the_sequence(self):
        with acting_as_visitor("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"):
            assert reached() is None

    def test_is_everything_with_a_partition_that_the_outbox_did_not_create(self):
        """The doctor reports it. Deliveries continue."""
        rows("CREATE TABLE rest PARTITION OF outbox_event DEFAULT")
        emit_orders()

        assert reached() is None
        assert len(relayed()) == 1

    def test_is_everything_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "PARTITION": ""}

        assert reached() is None

    def test_is_everything_while_an_old_event_waits_for_fan_out(self):
        emit_old()

        assert reached() is None

    @pytest.mark.parametrize("state", ["pending", "sent", "blocked", "parked"])
    def test_is_everything_while_an_old_delivery_has_work(self, state: str):
        emit_old()
        create_deliveries()
        Delivery.objects.update(state=state, due_at=clock.now() - timedelta(seconds=1))

        assert reached() is None

    def test_is_everything_while_an_old_delivery_is_in_flight(self):
        emit_old()
        run_pass()

        assert reached() is None

    @pytest.mark.parametrize("state", ["done", "dead"])
    def test_leaves_out_old_deliveries_that_wait_for_nobody_here(self, state: str):
        emit_old()
        create_deliveries()
        Delivery.objects.update(state=state)

        assert reached() is not None

    def test_leaves_out_an_old_delivery_that_is_not_due(self):
        emit_old()
        create_deliveries()
        Delivery.objects.update(due_at=clock.now() + timedelta(hours=1))

        assert reached() is not None

    def test_is_kept_for_some_seconds(self):
        mine = Reach()
        before = mine.events(using="default")
        emit_old()

        assert mine.events(using="default") == before


class TestAPass:
    def test_within_a_reach_leaves_old_events_and_deliveries_alone(self):
        emit_old()
        within = newest(clock.now(), using="default")

        assert run_pass(reach=within) == []
        create_deliveries()
        assert run_pass(reach=within) == []
        assert len(run_pass()) == 1

    def test_within_a_reach_delivers_what_is_new(self):
        emit_orders(3)

        run_messages(run_pass(reach=newest(clock.now(), using="default")))

        assert Delivery.objects.filter(state="done").count() == 3

    def test_within_a_reach_sends_what_is_due_again(self):
        within = newest(clock.now(), using="default")
        emit_orders(3)
        run_pass(reach=within)
        Delivery.objects.update(due_at=clock.now() - timedelta(seconds=1))

        [message] = run_pass(reach=within)

        assert len(message.pairs) == 3

    def test_claims_by_the_range_of_the_claimed_events(self):
        """Without statistics, PostgreSQL reads all of a wider range by the primary key."""
        within = newest(clock.now(), using="default")
        emit_orders(3)
        create_deliveries()
        seqs = list(Event.objects.order_by("seq").values_list("seq", flat=True))

        with CaptureQueriesContext(connection) as captured:
            [message] = run_pass(reach=within)

        assert message.events == (seqs[0], seqs[2])
        [claim] = [one["sql"] for one in captured if "SET state = 'sent'" in one["sql"]]
        assert claim.endswith(f"event_id BETWEEN {seqs[0]} AND {seqs[2]}")


class TestARelay:
    def test_delivers_new_events(self):
        emit_orders(2)

        run_messages(relayed())

        assert Delivery.objects.filter(state="done").count() == 2

    def test_finds_an_old_delivery_that_becomes_due(self, always: None):
        pace = Pace()
        assert relayed(pace) == []
        event = emit_old()
        create_deliveries()

        [message] = relayed(pace)

        assert message.events == (event.seq, event.seq)

    def test_finds_an_event_of_a_transaction_that_began_the_day_before(self):
        """Its number is older than the jump of the sequence."""
        today = first_seq(day_at(clock.now()))
        set_seq(today - PER_DAY + 7)
        emit_orders()
        set_seq(today + 1)
        emit_orders()

        messages = relayed()

        assert sum(len(one.pairs) for one in messages) == 2
