"""Hosts compare times of the database's clock, so a wrong clock of a host does no harm."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from django.db import DataError, OperationalError, connection, transaction
from django.utils import timezone

from outbox import DomainEvent, clock, emit, subscribe
from outbox.deliveries import heartbeat
from outbox.doctor import processes
from outbox.models import Attempt, Delivery, Event, Heartbeat
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import run_message, run_pass

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "database_time"),
]

AHEAD = timedelta(seconds=90)
A_MOMENT = timedelta(seconds=30)


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


@pytest.fixture
def database_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production; the test kit uses the host's clock."""
    monkeypatch.setattr(clock, "_is_host_time", False)
    monkeypatch.setattr(clock, "_measured", {})
    heartbeat._written.clear()


def emit_and_send() -> Message:
    Outbox()
    with transaction.atomic():
        emit(Counted(order_id=uuid4()))
    [message] = run_pass()
    return message


class TestAHostWhoseClockIsAhead:
    def test_declares_no_healthy_worker_dead(self):
        """Failed: a relay that was 90 s ahead killed a handler five times, and it was dead."""

        @subscribe("tests.Counted", atomic=False)
        def count(receipt) -> None:
            with time_machine.travel(AHEAD):
                run_pass()
            with receipt:
                pass

        message = emit_and_send()
        run_message(message)

        assert Delivery.objects.get().state == "done"
        assert not Attempt.objects.exists()

    def test_writes_shared_times_by_the_databases_clock(self):
        @subscribe("tests.Counted")
        def count() -> None: ...

        with time_machine.travel(AHEAD):
            message = emit_and_send()
            run_message(message)
            heartbeat.beat("worker", "ahead", using="default")

        now = timezone.now()
        delivery = Delivery.objects.get()
        written = [
            Event.objects.get().emitted_at,
            Event.objects.get().fanned_out_at,
            delivery.started_at,
            delivery.settled_at,
            Heartbeat.objects.get(name="ahead").seen_at,
        ]
        assert all(at is not None and abs(at - now) < A_MOMENT for at in written), written

    def test_delays_an_event_by_the_databases_clock(self):
        Outbox()
        with time_machine.travel(timezone.now() - AHEAD), transaction.atomic():
            emit(Counted(order_id=uuid4()), delay=timedelta(seconds=60))

        with connection.cursor() as cursor:
            cursor.execute("SELECT due_at > clock_timestamp() FROM outbox_delayedevent")
            assert cursor.fetchone() == (True,)


class TestTheMeasurement:
    def test_returns_the_offset_of_the_host(self):
        with time_machine.travel(AHEAD):
            clock.forget(using="default")

            assert abs(clock.host_offset() - AHEAD) < A_MOMENT

    def test_reads_the_database_once_for_many_calls(self, django_assert_num_queries):
        clock.now()

        with django_assert_num_queries(0):
            assert clock.now() <= clock.now()

    def test_that_is_discarded_is_used_until_the_next_one(self, monkeypatch):
        """Another thread discards it when it loses its connection. Failed."""

        def fail(using: str) -> None:
            raise OperationalError

        before = clock.now()
        clock.forget(using="default")
        monkeypatch.setattr(clock, "_measure", fail)

        assert before <= clock.now() < before + A_MOMENT

    def test_is_not_changed_by_an_adjustment_of_the_hosts_clock(self):
        before = clock.now()

        with time_machine.travel(timezone.now() - timedelta(days=1)):
            assert before <= clock.now() < before + A_MOMENT

    def test_is_repeated_at_intervals(self, monkeypatch: pytest.MonkeyPatch):
        clock.now()
        monkeypatch.setattr(clock, "_LIFETIME", 0.0)
        measured = clock._measured["default"]

        clock.now()

        assert clock._measured["default"].at > measured.at

    def test_is_repeated_after_a_slow_round_trip(
        self, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries
    ):
        monkeypatch.setattr(clock, "_ROUND_TRIP", 0.0)

        with django_assert_num_queries(3):
            clock.now()

    def test_is_kept_while_the_database_is_unreachable(self, monkeypatch: pytest.MonkeyPatch):
        """In a transaction that has failed, or during an outage."""
        clock.now()
        monkeypatch.setattr(clock, "_LIFETIME", 0.0)

        with pytest.raises(OperationalError), transaction.atomic():
            with pytest.raises(DataError), connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
            assert abs(clock.now() - timezone.now()) < A_MOMENT
            raise OperationalError

    def test_costs_an_emitter_no_statement(self, django_assert_num_queries):
        Outbox()

        with transaction.atomic(), django_assert_num_queries(1):
            emit(Counted(order_id=uuid4()))


class TestTheDoctor:
    def test_names_the_hosts_whose_clocks_differ(self):
        with time_machine.travel(AHEAD):
            heartbeat.beat("relay", "relay@ahead", using="default")
        heartbeat.beat("worker", "worker@right", using="default")

        [found] = [
            one for one in processes.examine_heartbeats(using="default") if one.part == "clocks"
        ]

        assert found.severity == "warning"
        # The statement that stores the heartbeat may take a part of the 90 seconds.
        assert re.search(r"The host of relay@ahead is \d\d\.\d s ahead of the database", found.text)

    def test_reports_equal_clocks(self):
        heartbeat.beat("worker", "worker@right", using="default")

        [found] = [
            one for one in processes.examine_heartbeats(using="default") if one.part == "clocks"
        ]

        assert found.severity == "ok"
