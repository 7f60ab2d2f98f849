"""No settlement and no report is lost or doubled, whatever ends at the same moment or dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import F
from pytest_django import Settings

from outbox import databases, operations, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.failpoints import armed
from outbox.models import Delivery, Event, Settlement, SettlementReport
from outbox.settlements import is_settled, reporting
from outbox.settlements.overdue import pursue
from outbox.settlements.recording import Report, record
from outbox.sources.configuration import SourceConfig
from outbox.sources.storing import store
from outbox.testing import Outbox
from tests.outbox.drive import Died, die, run_message, run_messages, run_pass, states
from tests.outbox.settlements.world import (
    emit_order,
    let_deadlines_pass,
    make_reports_due,
    publish,
    report,
    report_message,
    settlements,
    source,
)
from tests.outbox.sinks.memory import MemorySink
from tests.outbox.sources.messages import configure, declare_invoice_paid, message
from tests.processes import eventually
from tests.threads import count_blocked, in_thread, run_together

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def meanwhile(point: str, action: Callable[[], object]) -> Iterator[None]:
    """Run an action on another connection, from the point on; wait for it at the end.

    On PostgreSQL the transaction at the point goes on when the action has ended or waits for a
    lock. On SQLite the action waits for the end of the transaction.
    """
    ended = threading.Event()
    results: list[Callable[[], object]] = []

    def run() -> None:
        try:
            action()
        finally:
            ended.set()

    def start() -> None:
        if not results:
            results.append(in_thread(run))
            if connection.vendor == "postgresql":
                eventually(lambda: ended.is_set() or count_blocked(), "the end, or a wait")

    with armed(point, start):
        yield
    assert results, f"{point} was not reached"
    assert results[0]() is None


def dead_letter() -> UUID:
    """Return an event whose next missed deadline makes a dead letter."""
    event = emit_order()
    publish()
    Settlement.objects.update(most_replays=0)
    let_deadlines_pass()
    return event


class TestAReportBesideTheDeadline:
    def test_that_begins_within_the_step_is_stored_after_it(self, sink: MemorySink):
        event = dead_letter()

        with meanwhile(failpoints.IN_PURSUIT, lambda: report(event)):
            pursue(using=databases.alias())

        assert settlements() == [("billing", "settled")]
        assert states() == ["done"]

    def test_that_is_stored_first_leaves_nothing_to_do(self, sink: MemorySink):
        event = dead_letter()

        with meanwhile(failpoints.BEFORE_STORE, lambda: pursue(using=databases.alias())):
            report(event)

        assert settlements() == [("billing", "settled")]
        assert states() == ["done"]

    def test_at_the_same_moment_is_kept(self, sink: MemorySink):
        for _ in range(5):
            event = dead_letter()
            run_together([lambda: report(event), lambda: pursue(using=databases.alias())])  # noqa: B023  it ends within the round

            assert is_settled(event, "billing")
        assert states() == ["done"] * 5


class TestAReportBesideTheReceipt:
    def test_that_begins_within_the_receipt_is_kept(self, sink: MemorySink):
        event = emit_order()
        messages = run_pass()

        with meanwhile(failpoints.BEFORE_COMMIT, lambda: report(event)):
            run_messages(messages)

        assert settlements() == [("billing", "settled")]

    def test_that_is_stored_within_the_run_is_kept(self, sink: MemorySink):
        event = emit_order()
        messages = run_pass()

        with meanwhile(failpoints.BEFORE_STORE, lambda: run_messages(messages)):
            report(event)

        assert settlements() == [("billing", "settled")]
        assert states() == ["done"]


class TestAProcessThatDies:
    def test_within_the_step_of_the_deadline_changes_nothing(self, sink: MemorySink):
        emit_order()
        publish()
        let_deadlines_pass()

        with armed(failpoints.IN_PURSUIT, die), pytest.raises(Died):
            pursue(using=databases.alias())
        assert (states(), Settlement.objects.get().replays) == (["done"], 0)

        publish()
        assert Settlement.objects.get().replays == 1
        assert len(sink.messages) == 2

    def test_within_the_receipt_expects_nothing(self, sink: MemorySink):
        emit_order()

        with armed(failpoints.BEFORE_COMMIT, die), pytest.raises(Died):
            run_messages(run_pass())

        assert settlements() == []

    def test_before_the_report_is_stored_gets_it_again(self, sink: MemorySink):
        event = emit_order()
        publish()
        given = report_message(event)

        with armed(failpoints.BEFORE_STORE, die), pytest.raises(Died):
            store(source(), [given])
        assert settlements() == [("billing", "open")]

        assert store(source(), [given])["settlements"] == 1
        assert store(source(), [given])["duplicates"] == 1

    def test_before_its_own_report_is_committed_reports_once(self, billing, two_handlers):
        store(billing, [message()])
        run_messages(run_pass())  # one pass: a second one may report already
        make_reports_due()

        with armed(failpoints.BEFORE_REPORT, die), pytest.raises(Died):
            reporting.report(using=databases.alias())
        assert number_of_reports() == 0

        publish()
        make_reports_due()
        publish()
        assert number_of_reports() == 1


@pytest.fixture
def billing(own_registry: None, settings: Settings) -> SourceConfig:
    declare_invoice_paid()
    return configure(settings, SETTLES_AS="shop")


@pytest.fixture
def two_handlers(billing: SourceConfig) -> None:
    @subscribe("billing.InvoicePaid", name="tests.one")
    def one(order_id: UUID) -> None: ...

    @subscribe("billing.InvoicePaid", name="tests.two")
    def two(order_id: UUID) -> None: ...

    Outbox()


def number_of_reports() -> int:
    return Event.objects.filter(name="outbox.Settled").count()


class TestTwoDeliveriesOfOneEvent:
    def test_that_are_done_at_the_same_moment_give_one_report(self, billing, two_handlers):
        for number in range(5):
            store(billing, [message(number)])
            run_together([partial(run_message, one) for one in run_pass()])
            make_reports_due()
            run_together([lambda: reporting.report(using=databases.alias())] * 3)

            assert number_of_reports() == number + 1

    def test_of_which_one_is_not_committed_wait_for_it(self, billing, two_handlers):
        store(billing, [message()])
        messages = run_pass()
        make_reports_due()

        def check() -> None:
            reporting.report(using=databases.alias())

        with meanwhile(failpoints.BEFORE_RECEIPT, check):
            run_messages(messages)
        make_reports_due()
        publish()

        assert number_of_reports() == 1


class TestRetention:
    def test_waits_for_an_open_settlement(self, sink: MemorySink):
        event = emit_order()
        publish()
        make_old()

        assert (operations.countable(older_than=YEAR), operations.prune(older_than=YEAR)) == (0, 0)

        report(event)
        assert operations.prune(older_than=YEAR) == 1
        assert not Settlement.objects.exists()

    def test_waits_for_a_dead_letter(self, sink: MemorySink):
        dead_letter()
        pursue(using=databases.alias())
        make_old()

        assert operations.prune(older_than=YEAR) == 0

    def test_waits_for_the_report_of_a_received_event(self, billing, two_handlers):
        store(billing, [message()])
        run_messages(run_pass())
        make_old()

        assert operations.prune(older_than=YEAR) == 0

        make_reports_due()
        publish()
        make_old()
        assert operations.prune(older_than=YEAR) == 2
        assert not SettlementReport.objects.exists()

    def test_that_begins_within_a_report_keeps_or_removes_the_event(self, sink: MemorySink):
        event = emit_order()
        publish()
        report(event)
        make_old()

        def prune() -> None:
            operations.prune(older_than=YEAR)

        using = databases.alias()
        with meanwhile(failpoints.BEFORE_STORE, prune):
            report(event)

        with transaction.atomic():
            assert record([Report(event, "billing")], using=using)["ignored"] == 1
        assert not Delivery.objects.exists()


YEAR = timedelta(days=365)


def make_old() -> None:
    Event.objects.update(emitted_at=F("emitted_at") - 2 * YEAR)
