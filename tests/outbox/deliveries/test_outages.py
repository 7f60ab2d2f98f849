"""An outage of the database uses up no attempt, and loses no delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, connections
from django.db.models import F

from outbox import Receipt, clock, subscribe
from outbox.deliveries import heartbeat, settlement, transient_errors, withdrawal
from outbox.models import Attempt, Delivery, Heartbeat
from outbox.testing import Outbox
from tests.link import Link
from tests.outbox.drive import run_message, run_pass, states_and_attempts
from tests.outbox.outages import Outage, expire_leases, new_message
from tests.threads import aside

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class TestAnOutage:
    def test_in_an_atomic_handler_uses_up_no_attempt(self, outage: Outage):
        """Rule 9. Failed, dead at its only attempt, while five quick tries were all."""
        runs = []

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                outage()
            Group.objects.create(name=uuid4().hex)

        run_message(new_message())

        assert states_and_attempts() == [("pending", 0)]
        assert Attempt.objects.get().outcome == "outage"
        assert not Group.objects.exists()

    def test_in_a_handler_with_receipt_uses_up_no_attempt(self, outage: Outage):
        @subscribe("tests.Counted", attempts=1, atomic=False)
        def call(receipt: Receipt) -> None:
            outage()
            with receipt:
                pass

        run_message(new_message())

        assert states_and_attempts() == [("pending", 0)]

    def test_that_a_handler_hides_behind_another_error_uses_up_no_attempt(self, outage: Outage):
        @subscribe("tests.Counted", attempts=1, atomic=False)
        def count(receipt: Receipt) -> None:
            outage()
            try:
                Group.objects.exists()
            except OperationalError:
                raise ValueError("the shelf cannot be read") from None

        run_message(new_message())

        assert states_and_attempts() == [("pending", 0)]

    def test_does_not_prevent_the_other_deliveries_of_the_message(self, outage: Outage):
        """Failed while all that had started of a message expired as deaths."""
        runs = []

        @subscribe("tests.Counted", attempts=1, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                outage()
            Group.objects.create(name=uuid4().hex)

        run_message(new_message(3))

        assert states_and_attempts() == [("pending", 0), ("done", 1), ("done", 1)]
        assert Group.objects.count() == 2

    def test_of_a_whole_batch_repeats_each_delivery_once(self, outage: Outage):
        runs = []

        @subscribe("tests.Counted")
        def count() -> None:
            runs.append(1)
            if len(runs) == 2:
                outage()
            Group.objects.create(name=uuid4().hex)

        run_message(new_message(3))

        assert states_and_attempts() == [("done", 1)] * 3
        assert Group.objects.count() == 3

    def test_before_the_start_delays_the_delivery(self, outage: Outage):
        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            Group.objects.create(name=uuid4().hex)

        message = new_message()
        outage()

        run_message(message)

        assert states_and_attempts() == [("done", 1)]

    def test_that_hides_the_answer_to_a_commit_leaves_the_delivery_done(
        self, outage: Outage, monkeypatch: pytest.MonkeyPatch
    ):
        backend = type(connections["default"])
        commit: Any = backend._commit  # type: ignore[attr-defined]  # not in the stubs
        lost: list[bool] = []

        def commit_and_cut(self: Any) -> None:
            commit(self)
            if threading.current_thread() is threading.main_thread() and not lost:
                lost.append(True)
                outage()
                raise OperationalError("server closed the connection unexpectedly")

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            Group.objects.create(name=uuid4().hex)
            monkeypatch.setattr(backend, "_commit", commit_and_cut)

        [result] = run_message(new_message())

        assert result.error is None
        assert states_and_attempts() == [("done", 1)]
        assert not Attempt.objects.exists()
        assert Group.objects.count() == 1


class TestALeaseThatExpiresDuringAnOutage:
    def test_uses_up_no_attempt_if_the_worker_survives(self, outage: Outage):
        """Another host counted a crash. Failed, dead, while that was not withdrawn."""
        outage.meanwhile = expire_leases

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            outage()
            Group.objects.exists()

        run_message(new_message())

        assert states_and_attempts() == [("pending", 0)]
        assert Attempt.objects.get().outcome == "outage"

    def test_uses_up_no_attempt_of_deliveries_that_have_not_started(self, outage: Outage):
        outage.meanwhile = expire_leases
        runs = []

        @subscribe("tests.Counted", attempts=1, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            outage()
            Group.objects.exists()

        run_message(new_message(3))

        assert runs == [1], "what is declared dead does not run"
        assert states_and_attempts() == [("pending", 0)] * 3
        assert set(Attempt.objects.values_list("outcome", flat=True)) == {"outage"}

    def test_counts_if_the_worker_hung_without_an_outage(self, link: Link):
        """Rule 11: a worker that returns after its lease counts as dead."""

        @subscribe("tests.Counted", attempts=2)
        def count() -> None:
            aside(expire_leases)

        run_message(new_message())

        assert states_and_attempts() == [("pending", 1)]
        outcomes = Attempt.objects.order_by("id").values_list("outcome", flat=True)
        assert list(outcomes) == ["died", "lease_lost"]

    def test_is_not_judged_while_workers_may_still_report(self, link: Link):
        """The relay has noticed the outage. Failed while it checked leases immediately."""

        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        message = new_message()
        now = clock.now()
        Delivery.objects.update(
            started_token=F("token"), attempts=1, started_at=now, worker="w1", due_at=now
        )
        heartbeat.record_outage(5.0, using="default")

        run_pass()
        assert states_and_attempts() == [("sent", 1)]

        Heartbeat.objects.filter(kind="outage").update(seen_at=now - timedelta(minutes=1))
        run_pass()
        assert states_and_attempts() == [("dead", 1)]
        assert message.pairs

    def test_gives_no_attempt_back_if_a_person_has_retried_since(self, link: Link):
        @subscribe("tests.Counted", attempts=3)
        def count() -> None: ...

        new_message()
        row = Delivery.objects.get()
        row.started_at, row.worker, row.attempts = row.due_at, "w1", 2
        row.started_token = row.token
        row.save()
        settlement.record_death(row, using="default")
        Delivery.objects.update(attempts=0, token=5)

        number = withdrawal.withdraw_deaths(
            [row.pk], worker="w1", started_at=row.started_at, using="default"
        )

        assert number == 1

        assert states_and_attempts() == [("pending", 0)]


class TestAnErrorOfTheDatabase:
    def test_that_an_event_causes_at_each_attempt_ends_as_dead(self):
        """Failed: 20 rounds were 100 runs, and no attempt, no record and no backoff."""

        @subscribe("tests.Counted", attempts=2)
        def count() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        outbox = Outbox()
        outbox.given("tests.Counted", order_id=uuid4())
        waits = []
        for _ in range(7):
            outbox.deliver_all(raise_errors=False)
            row = Delivery.objects.get()
            waits.append(row.due_at > clock.now())
            outbox.let_pass(timedelta(days=1))

        assert states_and_attempts() == [("dead", 2)]
        outcomes = Attempt.objects.order_by("id").values_list("outcome", flat=True)
        assert list(outcomes) == ["database"] * 5 + ["failed"] * 2
        assert all(waits[:6]), "each waits for its backoff"

    @pytest.mark.parametrize("scope", ["SET LOCAL", "SET"])
    def test_by_a_timeout_that_the_handler_has_set_is_an_ordinary_failure(self, scope: str):
        """Failed, five runs, after SET: its connection is dropped, and that is no lost one."""
        runs = []

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            runs.append(1)
            with connection.cursor() as cursor:
                cursor.execute(f"{scope} statement_timeout = '50ms'")
                cursor.execute("SELECT pg_sleep(20)")

        run_message(new_message())

        assert (runs, states_and_attempts()) == ([1], [("dead", 1)])
        assert Attempt.objects.get().outcome == "failed"

    def test_of_another_database_is_an_ordinary_failure(self, monkeypatch: pytest.MonkeyPatch):
        """Failed while it was repeated without limit, and no breaker opened."""
        runs = []

        def run_elsewhere() -> None:
            runs.append(1)
            other = connection.copy(alias="elsewhere")
            other.settings_dict = {**other.settings_dict, "PORT": 1}
            with other.cursor():
                pass

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            run_elsewhere()

        run_message(new_message())

        assert runs == [1]
        assert states_and_attempts() == [("dead", 1)]
        assert Attempt.objects.get().outcome == "failed"


class TestTheWait:
    def test_is_reported_at_its_beginning_and_end(
        self, outage: Outage, caplog: pytest.LogCaptureFixture
    ):
        outage()

        seconds = transient_errors.DatabaseAccess("default")
        began = time.monotonic()
        assert seconds.recover()

        assert 0 < seconds.outage_seconds <= time.monotonic() - began
        assert "cannot be reached; waiting" in caplog.text
        assert "s for the database default" in caplog.text

    def test_continues_while_the_database_is_read_only(self, monkeypatch: pytest.MonkeyPatch):
        """The server is a standby, or a primary that became one."""
        seen: list[int] = []
        with connection.cursor() as cursor:
            cursor.execute(f"{self.own()} SET default_transaction_read_only = on")
        connection.close()
        try:
            assert transient_errors.wait_until_reachable(using="default", sleep=self.reset(seen))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = off")
                cursor.execute(f"{self.own()} RESET default_transaction_read_only")
            connection.close()
        assert seen

    def own(self) -> str:
        """Return the start of a statement about this database: other tests may use the server."""
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        return f"ALTER ROLE CURRENT_USER IN DATABASE {name}"

    def reset(self, seen: list[int]) -> Callable[[float], object]:
        def sleep(_seconds: float) -> bool:
            seen.append(1)
            with connection.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = off")
                cursor.execute(f"{self.own()} RESET default_transaction_read_only")
            connection.close()
            return False

        return sleep
