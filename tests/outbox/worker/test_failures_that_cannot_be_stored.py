"""A failure that the database refuses to store has no effect on the rest of the message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F

from outbox import BulkDelivery, Receipt, clock, subscribe
from outbox.deliveries import failpoints, settlement
from outbox.deliveries.lease import Lease
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.formatting import format_time
from outbox.models import Delivery
from outbox.worker.outcome import Result
from tests.outbox.drive import outcomes, run_message, states_and_attempts
from tests.outbox.outages import Outage, expire_leases, new_message
from tests.processes import eventually
from tests.threads import in_thread

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class DiskFull(Exception):
    sqlstate = "53100"


class TestAFailureThatCannotBeStored:
    @pytest.mark.postgresql
    def test_costs_its_neighbours_no_attempt(self, monkeypatch: pytest.MonkeyPatch):
        """The role has a statement_timeout, and another transaction locks the row for longer."""
        runs = []

        @subscribe("tests.Counted", attempts=5, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                raise ValueError("the bank is away")

        message = new_message(3)
        first = min(pk for pk, _token in message.pairs)
        options = {**connection.settings_dict["OPTIONS"], "options": "-c statement_timeout=2000"}
        limited = {**connection.settings_dict, "OPTIONS": options}
        connection.close()
        monkeypatch.setattr(connections["default"], "settings_dict", limited)
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                list(Delivery.objects.select_for_update().filter(pk=first))
                held.set()
                go_on.wait(60)

        holders: list[Any] = []

        def begin() -> None:
            holders.append(in_thread(hold))
            assert held.wait(60)

        try:
            with failpoints.armed(failpoints.AFTER_START, begin):
                results = run_message(message)
        finally:
            go_on.set()
            holders[0]()
            connection.close()
        expire_leases()

        assert [one.state for one in results] == ["sent", "done", "done"]
        assert states_and_attempts()[1:] == [("done", 1), ("done", 1)]

    def test_for_a_full_disk_costs_its_neighbours_no_attempt(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        runs = []
        fail: Any = settlement.fail
        full: list[bool] = []

        @subscribe("tests.Counted", attempts=5, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                raise ValueError("the bank is away")

        def fail_on_a_full_disk(*arguments: Any, **options: Any) -> Any:
            if not full:
                full.append(True)
                raise OperationalError("could not extend file") from DiskFull()
            return fail(*arguments, **options)

        message = new_message(3)
        monkeypatch.setattr(settlement, "fail", fail_on_a_full_disk)

        results = run_message(message)

        assert [one.state for one in results] == ["sent", "done", "done"]
        assert states_and_attempts() == [("sent", 1), ("done", 1), ("done", 1)]
        assert "could not be stored" in caplog.text


class TestALeaseThatCannotBeRenewed:
    def test_does_not_end_the_message_of_a_bulk_handler(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: the failures of the other deliveries were not stored, and none was logged."""
        keep = Lease.keep
        full: list[bool] = []

        @subscribe("tests.Counted", bulk=True, attempts=5)
        def count(deliveries: Sequence[BulkDelivery]) -> None:
            full.append(True)
            raise ValueError("the bank is away")

        def keep_on_a_full_disk(lease: Lease) -> None:
            if full and full.pop():
                raise OperationalError("could not extend file") from DiskFull()
            keep(lease)

        message = new_message(3)
        monkeypatch.setattr(Lease, "keep", keep_on_a_full_disk)

        results = run_message(message)

        assert [one.state for one in results] == ["pending"] * 3


class TestTheLogOfAFailureThatCannotBeStored:
    """Failed: an INFO line said "sent", and a traceback had the texts of all exceptions."""

    @pytest.fixture
    def line(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> logging.LogRecord:
        """The line of a handler that failed while the disk was full."""

        @subscribe("tests.Counted", attempts=5)
        def count() -> None:
            raise ValueError("no mailbox hanako@example.com")

        def refuse(*_arguments: Any, **_options: Any) -> Any:
            raise OperationalError("no room for hanako@example.com") from DiskFull()

        message = new_message()
        monkeypatch.setattr(settlement, "fail", refuse)
        with caplog.at_level(logging.INFO, logger="outbox"):
            run_message(message)
        [line] = [one for one in caplog.records if one.name == "outbox.delivery"]
        return line

    def test_has_the_failure_its_cause_and_its_outcome(self, line: logging.LogRecord):
        text = line.getMessage()

        assert line.levelname == "ERROR"
        assert " failed in " in text
        assert "ValueError: no mailbox ***" in text
        assert "could not be stored (OperationalError: no room for ***)" in text
        assert vars(line)["outcome"] == "not_stored"
        assert "in refuse" in text  # the traceback

    def test_names_the_end_of_the_lease(self, line: logging.LogRecord):
        row = Delivery.objects.get()

        assert row.state == "sent"
        assert f"Its lease expires at {format_time(row.due_at)}" in line.getMessage()

    def test_has_no_personal_data(self, line: logging.LogRecord, caplog: pytest.LogCaptureFixture):
        assert "hanako" not in line.getMessage() + caplog.text

    def test_is_followed_by_a_note_that_does_not_blame_only_the_worker(
        self, line: logging.LogRecord
    ):
        expire_leases()

        assert outcomes() == ["died"]
        assert "or could not store its result" in Delivery.objects.get().note


class TestTheEndOfALease:
    """That a worker names is the one that is stored."""

    def test_is_known_from_the_start_of_an_ordered_handler(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("tests.Counted", attempts=5, ordered=True)
        def count() -> None:
            raise ValueError

        [result] = refused(monkeypatch)

        assert result.refusal is not None
        assert format_time(result.refusal.leased_until) == format_time(
            Delivery.objects.get().due_at
        )

    def test_is_known_from_its_latest_extension(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("tests.Counted", attempts=5, atomic=False, lease=60)
        def count(receipt: Receipt) -> None:
            Delivery.objects.update(due_at=F("due_at") - timedelta(hours=1))
            receipt.extend()
            raise ValueError

        [result] = refused(monkeypatch)

        assert result.refusal is not None
        due_at = Delivery.objects.get().due_at
        assert abs(result.refusal.leased_until - due_at) < timedelta(milliseconds=1)


def refused(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Deliver an event whose failure the database refuses to store."""

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise OperationalError("could not extend file") from DiskFull()

    message = new_message()
    monkeypatch.setattr(settlement, "fail", refuse)
    return run_message(message)


@pytest.mark.postgresql
class TestAStepAfterALostConnectionThatFails:
    def test_costs_no_delivery_of_the_message_an_attempt(
        self, outage: Outage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        runs = []
        renew: Any = Lease.renew
        full: list[bool] = []

        def renew_on_a_full_disk(lease: Lease) -> None:
            if not full:
                full.append(True)
                raise OperationalError("could not extend file") from DiskFull()
            renew(lease)

        monkeypatch.setattr(Lease, "renew", renew_on_a_full_disk)

        @subscribe("tests.Counted", attempts=1, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                outage()
                Delivery.objects.exists()

        run_message(new_message(3))

        assert states_and_attempts() == [("pending", 0), ("done", 1), ("done", 1)]
        assert "A step after a lost connection" in caplog.text


@pytest.mark.postgresql
class TestAnotherThreadThatNoticesAnOutage:
    def test_costs_this_thread_no_lease(self, outage: Outage, monkeypatch: pytest.MonkeyPatch):
        """It discards the clock offset. Failed: no end of a lease could be read after that."""
        monkeypatch.setattr(clock, "_is_host_time", False)
        monkeypatch.setattr(clock, "_measured", {})
        cut: list[bool] = []

        @subscribe("tests.Counted", attempts=5, shared_transaction=False)
        def count() -> None: ...

        message = new_message(3)

        def recover_in_another_thread() -> None:
            if cut:
                return
            cut.append(True)
            outage()
            settings = connections["default"].settings_dict

            def recover() -> None:
                connections["default"].settings_dict = settings
                DatabaseAccess("default", sleep=lambda _seconds: True).recover()

            in_thread(recover)()
            # A delivery that notices the outage itself is put off; this test is about the others.
            eventually(lambda: not outage.link._is_cut, "the link is mended")

        with failpoints.armed(failpoints.AFTER_RECEIPT, recover_in_another_thread):
            run_message(message)
        connections["default"].close()
        expire_leases()

        assert "died" not in outcomes()
        assert states_and_attempts() == [("done", 1)] * 3
