"""A network between worker and database that drops all packets, and closes no connection.

A worker notices nothing until it is over. Meanwhile its leases pass, and relays of hosts that are
not cut off declare it dead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from outbox import Receipt, subscribe
from outbox.deliveries import failpoints, transient_errors
from outbox.testing import Outbox
from tests.link import Link
from tests.outbox.drive import outcomes, run_message, run_pass, states_and_attempts
from tests.outbox.outages import expire_leases, new_message
from tests.threads import aside, in_thread

_A_DAY = timedelta(days=1)

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class TestASessionThatPostgresqlEnds:
    """`bound_transaction` ends the session of a process that is stopped within a transaction."""

    def test_uses_up_no_attempt(self):
        """Rule 9. Failed while 25P03, an InternalError, was an ordinary failure."""
        stopped: list[bool] = []

        @subscribe("tests.Counted", attempts=1, lease=3.0, time_limit=2.9)
        def count() -> None:
            Group.objects.create(name=uuid4().hex)

        def stop_for_longer_than_the_lease() -> None:
            if not stopped:
                stopped.append(True)
                time.sleep(3.5)

        message = new_message()
        with failpoints.armed(failpoints.BEFORE_RECEIPT, stop_for_longer_than_the_lease):
            run_message(message)

        assert "failed" not in outcomes()
        assert states_and_attempts() == [("done", 1)]

    def test_is_possible_for_a_lease_of_a_month(self):
        """Failed, "Value exceeds integer range", from 24.9 days on."""

        @subscribe("tests.Counted", attempts=1, lease=30 * 86400.0, time_limit=60.0)
        def count() -> None: ...

        run_message(new_message())

        assert states_and_attempts() == [("done", 1)]


class TestASilentNetwork:
    """Rule 9, for an outage that no process notices: the database is reachable when it ends."""

    def test_that_ends_by_a_reset_uses_up_no_attempt(self, link: Link):
        silent: list[Any] = []

        def other_host() -> None:
            time.sleep(0.5)
            expire_leases()
            link.cut()
            link.mend()

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            silent.append(_silence(link, then=other_host))
            Group.objects.create(name=uuid4().hex)

        run_message(new_message())
        _end(silent)

        assert states_and_attempts() == [("pending", 0)]
        assert outcomes() in (["outage"], ["database"])

    @pytest.mark.parametrize("end", ["mend", "reset"])
    def test_at_a_receipt_uses_up_no_attempt_of_the_message(self, link: Link, end: str):
        """No limit interrupts a receipt or a COMMIT, so the worker waits there. Real leases."""
        silent: list[Any] = []

        @subscribe("tests.Counted", attempts=1, shared_transaction=False, lease=1.5, time_limit=1.0)
        def count() -> None: ...

        def other_host() -> None:
            for _ in range(30):
                time.sleep(0.1)
                run_pass()
            if end == "reset":
                link.cut()
            link.mend()

        def silence() -> None:
            if not silent:
                silent.append(_silence(link, then=other_host))

        message = new_message(3)
        with failpoints.armed(failpoints.BEFORE_RECEIPT, silence):
            run_message(message)
        _end(silent)

        assert "died" not in outcomes()
        assert states_and_attempts() == [("pending", 0)] * 3

    def test_that_heals_without_an_error_uses_up_no_attempt_of_the_message(self, link: Link):
        silent: list[Any] = []

        def other_host() -> None:
            time.sleep(transient_errors.HUNG_SECONDS + 0.2)
            expire_leases()
            link.mend()

        @subscribe("tests.Counted", attempts=1, atomic=False)
        def count(receipt: Receipt) -> None:
            if not silent:
                silent.append(_silence(link, then=other_host))
            Group.objects.exists()
            with receipt:
                pass

        run_message(new_message(2))
        _end(silent)

        assert states_and_attempts() == [("pending", 0)] * 2
        assert outcomes() == ["database"] * 2


class TestAStatementThatTakesLong:
    def test_and_outlasts_the_lease_each_time_ends_as_dead(self, monkeypatch: pytest.MonkeyPatch):
        """Rule 11. A silent network and a slow query look the same, so the excuse has a bound."""
        monkeypatch.setattr(transient_errors, "HUNG_SECONDS", 0.05)

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.1)")
            aside(expire_leases)

        _deliver_again_and_again(times=7)

        assert states_and_attempts() == [("dead", 1)]
        assert outcomes() == ["database"] * 5 + ["died", "lease_lost"]

    def test_and_is_interrupted_each_time_ends_as_dead(self):
        """Rule 11. Only a time limit notices a server that stands still, or a query that hangs."""

        @subscribe("tests.Counted", attempts=1, time_limit=1)
        def count() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(20)")

        _deliver_again_and_again(times=7)

        assert states_and_attempts() == [("dead", 1)]
        assert outcomes() == ["database"] * 5 + ["failed"]

    def test_does_not_excuse_a_handler_that_hangs_elsewhere(self):
        @subscribe("tests.Counted", attempts=1, time_limit=1)
        def count() -> None:
            Group.objects.exists()
            time.sleep(20)

        run_message(new_message())

        assert (states_and_attempts(), outcomes()) == ([("dead", 1)], ["failed"])


def _deliver_again_and_again(*, times: int) -> None:
    outbox = Outbox()
    message: Any = new_message()
    for _ in range(times):
        if message:
            run_message(message)
        outbox.let_pass(_A_DAY)
        messages = run_pass()
        message = messages[0] if messages else None


def _silence(link: Link, *, then: Callable[[], object]) -> Any:
    """Silence the link; run `then` in another thread when this one sends its next statement."""
    is_sent = threading.Event()

    def note(execute: Callable[..., Any], *arguments: Any) -> Any:
        connection.execute_wrappers.remove(note)
        is_sent.set()
        return execute(*arguments)

    def run() -> None:
        assert is_sent.wait(60)
        then()

    link.silence()
    connection.execute_wrappers.append(note)
    return in_thread(run)


def _end(others: list[Any]) -> None:
    for other in others:
        other()
