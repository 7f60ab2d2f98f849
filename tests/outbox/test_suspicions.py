"""Suspicions that proved wrong: each test shows that the engine holds."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, OperationalError, connection, connections, transaction

from outbox import subscribe
from outbox.deliveries import transient_errors, withdrawal
from outbox.subscriptions import find
from outbox.worker import start
from tests.outbox.drive import run_message, states_and_attempts
from tests.outbox.outages import expire_leases, new_message
from tests.threads import aside, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


@pytest.mark.parametrize("shares", [True, False])
def test_set_transaction_is_possible_as_the_first_statement(shares: bool):
    seen = []

    @subscribe("tests.Counted", shared_transaction=shares)
    def count() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            cursor.execute("SHOW transaction_isolation")
            seen.append(cursor.fetchone()[0])

    run_message(new_message(2))

    assert states_and_attempts() == [("done", 1)] * 2
    assert seen[-1] == "serializable"


def test_callbacks_within_callbacks_run_once_each():
    called = []

    def outer() -> None:
        called.append("outer")
        with transaction.atomic():
            Group.objects.create(name=uuid4().hex)
            transaction.on_commit(lambda: called.append("inner"))
            transaction.on_commit(lambda: 1 / 0)
        called.append("never")

    @subscribe("tests.Counted")
    def count() -> None:
        transaction.on_commit(outer)
        transaction.on_commit(lambda: called.append("next"))

    run_message(new_message(2))

    assert states_and_attempts() == [("done", 1)] * 2
    assert called == ["outer", "inner", "outer", "inner", "next", "next"] or called == [
        "outer",
        "inner",
        "next",
        "outer",
        "inner",
        "next",
    ]


def test_a_callback_that_closes_the_connection_does_no_harm():
    called = []

    @subscribe("tests.Counted")
    def count() -> None:
        transaction.on_commit(lambda: connection.close())
        transaction.on_commit(lambda: called.append(Group.objects.count()))

    run_message(new_message(3))

    assert states_and_attempts() == [("done", 1)] * 3
    assert called == [0, 0, 0]


def test_a_late_commit_repeats_no_effect(monkeypatch: pytest.MonkeyPatch):
    """The COMMIT is still in transit when the worker, which lost its connection, runs again."""
    backend = type(connections["default"])
    commit: Any = backend._commit  # type: ignore[attr-defined]  # not in the stubs
    lost: list[Any] = []

    def commit_late(self: Any) -> None:
        if threading.current_thread() is not threading.main_thread() or lost or not runs:
            commit(self)
            return
        raw = self.connection
        self.connection = None  # the worker lets go of it; the server commits while it runs again

        def later() -> None:
            wait_until_blocked(1)
            raw.commit()
            raw.close()

        lost.append(in_thread(later))
        raise OperationalError("server closed the connection unexpectedly")

    runs: list[int] = []

    @subscribe("tests.Counted", attempts=1)
    def count() -> None:
        runs.append(1)
        Group.objects.create(name=uuid4().hex)

    message = new_message()
    monkeypatch.setattr(backend, "_commit", commit_late)
    run_message(message)
    assert lost[0]() is None

    assert Group.objects.count() == 1
    assert [state for state, _attempts in states_and_attempts()] == ["done"]


def test_a_hidden_database_error_costs_no_attempt():
    runs = []

    @subscribe("tests.Counted", attempts=1)
    def count() -> None:
        runs.append(1)
        if len(runs) == 1:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                [pid] = cursor.fetchone()
            aside(lambda: _terminate(pid))
            with suppress(DatabaseError):
                Group.objects.create(name=uuid4().hex)

    run_message(new_message())

    assert states_and_attempts() == [("done", 1)]


def _terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def test_a_crash_withdrawn_twice_gives_back_one_attempt():
    @subscribe("tests.Counted", attempts=3)
    def count() -> None: ...

    message = new_message()
    access = transient_errors.DatabaseAccess("default")
    handler = find("tests.count")
    assert handler
    [row] = start.start(handler, message.pairs, worker="w1", access=access)
    expire_leases()
    assert states_and_attempts()[0][1] == 1
    started_at = row.started_at
    assert started_at

    def withdraw() -> int:
        return withdrawal.withdraw_deaths(
            [row.pk], worker="w1", started_at=started_at, using="default"
        )

    assert (withdraw(), withdraw()) == (1, 0)
    assert states_and_attempts()[0][1] == 0
