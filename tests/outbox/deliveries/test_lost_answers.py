"""A lost answer of the database, or a lock error during the work, costs no attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event as Flag
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F
from django.utils import timezone

from outbox import DomainEvent, PermanentFailure, Receipt, subscribe
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.worker.delivery import deliver
from tests.outbox.drive import (
    create_deliveries,
    emit_events,
    run_message,
    run_messages,
    run_pass,
    states_and_attempts,
)
from tests.outbox.outages import expire_leases
from tests.threads import aside, run_together

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Numbered(DomainEvent, key="order_id"):
    order_id: UUID


class Fault:
    """Makes a statement fail once: after its execution (a lost answer), or instead of it."""

    def __init__(self, part: str, *, number: int = 1, times: int = 1, is_run: bool = False) -> None:
        self._part, self._number, self._times, self._is_run = part, number, times, is_run
        self.seen = 0

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        self.seen += self._part in sql
        is_hit = self._number <= self.seen < self._number + self._times and self._part in sql
        if is_hit and self._is_run:
            execute(sql, params, many, context)
            raise OperationalError("server closed the connection unexpectedly")
        if is_hit:
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)


#: The UPDATE that starts, the SELECT of what it started, the look with care.
START, EVENTS, CARE = "SET started_token", "FROM outbox_event e WHERE", "JOIN outbox_subscription s"


def lose_an_answer_to_commit(
    monkeypatch: pytest.MonkeyPatch, *, is_meant: Callable[[], bool] = lambda: True
) -> list[bool]:
    """Lose the answer to the next COMMIT before which `is_meant` is true.

    Returns:
        A list that is empty until that has happened.
    """
    lost: list[bool] = []
    backend = type(connections["default"])
    commit: Callable[[Any], None] = backend._commit  # type: ignore[attr-defined]

    def commit_and_lose(self: Any) -> None:
        loses = not lost and is_meant()
        commit(self)
        if loses:
            lost.append(True)
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(backend, "_commit", commit_and_lose)
    return lost


class TestAStart:
    def test_whose_answer_is_lost_is_recognised(self):
        """Rule 9. Seen to fail, dead at its only attempt, with `FREE` for each try."""
        runs = []

        @subscribe("tests.Numbered", attempts=1)
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered")
        [message] = run_pass()
        with connection.execute_wrapper(Fault(START, is_run=True)):
            run_message(message)
        expire_leases()

        assert len(runs) == 1
        assert states_and_attempts() == [("done", 1)]

    def test_is_recognised_although_its_delivery_changes_its_subscription(self):
        """As where two names become one. Seen to fail, dead, without `has` in `is_meant`."""
        runs = []

        @subscribe("tests.Numbered", attempts=1)
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered")
        [message] = run_pass()
        other = Subscription.objects.get()
        other.pk, other.handler = None, "tests.other"
        other.save()

        def lose(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if START in sql and not Delivery.objects.filter(subscription=other).exists():
                Delivery.objects.update(subscription=other)
                raise OperationalError("server closed the connection unexpectedly")
            return result

        with connection.execute_wrapper(lose):
            deliver(
                handler_name=message.handler,
                pairs=message.pairs,
                worker="w1",
                subscription=message.subscription,
            )

        assert len(runs) == 1
        assert states_and_attempts() == [("done", 1)]

    def test_of_an_ordered_handler_is_recognised_too(self, monkeypatch: pytest.MonkeyPatch):
        """Rule 9. Seen to fail, dead at its only attempt, without the look at whose start it is."""
        runs = []

        @subscribe("tests.Numbered", attempts=1, ordered=True)
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered")
        [message] = run_pass()
        lost = lose_an_answer_to_commit(monkeypatch)
        run_message(message)
        expire_leases()

        assert lost
        assert len(runs) == 1
        assert states_and_attempts() == [("done", 1)]

    @pytest.mark.sqlite
    @pytest.mark.parametrize("locked", [Fault(EVENTS), Fault(START, number=2)])
    def test_continues_after_a_lock_error_in_its_middle(self, locked: Fault):
        """Rule 9, where each statement commits alone. Seen to fail with `FREE` for each try."""
        runs = []

        @subscribe("tests.Numbered", attempts=2)
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered")
        run_pass()
        # As if handed back: its next token is another than the first of the other.
        Delivery.objects.update(state="pending", due_at=timezone.now())
        emit_events("tests.Numbered")
        create_deliveries()
        [message] = run_pass()
        assert {token for _, token in message.pairs} == {1, 2}

        with connection.execute_wrapper(locked):
            run_message(message)
        expire_leases()

        assert locked.seen > 1
        assert len(runs) == 2
        assert states_and_attempts() == [("done", 1), ("done", 1)]

    def test_that_fails_for_some_deliveries_runs_the_others(self):
        """Seen to fail, with a death for each that was started, where it raised."""
        runs = []

        @subscribe("tests.Numbered")
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered", 3)
        [message] = run_pass()
        Delivery.objects.filter(pk=message.pairs[0][0]).update(state="discarded")

        with connection.execute_wrapper(Fault(CARE, times=5)):
            run_message(message)

        assert len(runs) == 2
        assert states_and_attempts() == [("discarded", 0), ("done", 1), ("done", 1)]

    def test_releases_a_newer_event_although_the_database_is_locked_once(self):
        """Rule 9. Seen to fail, with three deaths, without `retry_transient` around it."""
        runs = []

        @subscribe("tests.Numbered")
        def count() -> None:
            runs.append(1)

        emit_events("tests.Numbered", 3)
        [message] = run_pass()
        Event.objects.filter(pk=Event.objects.earliest("seq").pk).update(version=99)

        with connection.execute_wrapper(Fault('"outbox_delivery"."attempts" - ')):
            run_message(message)

        assert len(runs) == 2
        assert states_and_attempts() == [("pending", 0), ("done", 1), ("done", 1)]

    @pytest.mark.postgresql
    def test_that_waited_for_a_lock_has_its_whole_lease(self):
        """Seen to fail, over before the handler began, without `renew`."""
        left = []

        @subscribe("tests.Numbered", lease=4, time_limit=3)
        def count() -> None:
            left.append(Delivery.objects.get().due_at - timezone.now())

        emit_events("tests.Numbered")
        [message] = run_pass()
        is_held, has_waited = Flag(), Flag()

        def hold() -> None:
            with transaction.atomic():
                Delivery.objects.select_for_update().get()
                is_held.set()
                has_waited.wait(4.5)

        def start() -> None:
            is_held.wait()
            run_message(message)

        run_together([hold, start])

        assert left[0] > timedelta(seconds=1)
        assert states_and_attempts() == [("done", 1)]

    def test_of_an_ordered_delivery_has_the_lease_of_its_whole_batch(self):
        """Rule 11. Seen to fail with a lease computed from the remaining time alone."""
        left = {}

        @subscribe("tests.Numbered", lease=60)
        def count() -> None:
            rows = Delivery.objects.filter(state="sent")
            left.update({row.pk: row.due_at - timezone.now() for row in rows})

        emit_events("tests.Numbered", 4)
        [message] = run_pass()
        last, _token = message.pairs[-1]
        Delivery.objects.filter(pk=last).update(order_key="of a release that ordered them")

        run_message(message)

        assert left[last] > timedelta(seconds=70)

    @pytest.mark.postgresql
    def test_within_another_transaction_leaves_it_usable(self):
        """Seen to fail without the savepoint: nothing could be asked any more."""

        @subscribe("tests.Numbered")
        def count() -> None: ...

        emit_events("tests.Numbered")
        [message] = run_pass()

        def deliver_within() -> None:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '50ms'")
                with pytest.raises(OperationalError, match="lock timeout"):
                    run_message(message)
                assert not Group.objects.exists()

        with transaction.atomic():
            Delivery.objects.select_for_update().get()
            aside(deliver_within)


class TestAReceipt:
    def test_whose_answer_is_lost_is_recognised_and_is_no_lost_lease(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail, with an attempt that lost its lease, without `has_receipt`."""

        @subscribe("tests.Numbered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))

        emit_events("tests.Numbered")
        [message] = run_pass()
        lost = lose_an_answer_to_commit(monkeypatch)
        [result] = run_message(message)

        assert lost
        assert (result.state, result.error) == ("done", None)
        assert Group.objects.count() == 1
        assert not Attempt.objects.exists()


class TestAFailure:
    """Failed: it was recorded as failed, and once more as a lost lease."""

    @pytest.mark.parametrize(
        ("error", "outcome"), [(ValueError, "failed"), (PermanentFailure, "refused")]
    )
    def test_whose_answer_is_lost_is_recorded_once(
        self, error: type[Exception], outcome: str, monkeypatch: pytest.MonkeyPatch
    ):
        @subscribe("tests.Numbered")
        def count() -> None:
            raise error("the bank is closed")

        emit_events("tests.Numbered")
        [message] = run_pass()
        lost = lose_an_answer_to_commit(monkeypatch, is_meant=Attempt.objects.exists)
        [result] = run_message(message)

        assert lost
        assert result.state == ("pending" if outcome == "failed" else "dead")
        assert list(Attempt.objects.values_list("outcome", flat=True)) == [outcome]
        assert Subscription.objects.get().leases_lost == 0
        assert Delivery.objects.get().attempts == 1

    def test_after_a_lost_lease_whose_answer_is_lost_is_recorded_once(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        @subscribe("tests.Numbered", atomic=False)
        def count(receipt: Receipt) -> None:
            Delivery.objects.update(token=F("token") + 1)
            raise ValueError("the bank is closed")

        emit_events("tests.Numbered")
        [message] = run_pass()
        lost = lose_an_answer_to_commit(monkeypatch, is_meant=Attempt.objects.exists)
        run_message(message)

        assert lost
        assert list(Attempt.objects.values_list("outcome", flat=True)) == ["lease_lost"]
        assert Subscription.objects.get().leases_lost == 1


@pytest.mark.postgresql
class TestATransientErrorAfterALongRun:
    def test_is_retried_with_a_whole_lease(self):
        """Failed while the lease was not renewed between tries: the relay recorded a death."""
        runs = []

        def nearly_pass_the_lease() -> None:
            Delivery.objects.update(due_at=timezone.now() + timedelta(milliseconds=1))

        @subscribe("tests.Numbered", attempts=1, shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                aside(nearly_pass_the_lease)
                raise OperationalError("database is locked")
            aside(run_pass)
            Group.objects.create(name=uuid4().hex)

        emit_events("tests.Numbered")
        run_messages(run_pass())

        assert len(runs) == 2
        assert states_and_attempts() == [("done", 1)]
        assert not Attempt.objects.exists()

    def test_is_not_retried_if_another_worker_has_the_delivery(self):
        runs = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                aside(expire_leases)
                raise OperationalError("database is locked")

        emit_events("tests.Numbered")
        run_messages(run_pass())

        assert len(runs) == 1
        in_order = Attempt.objects.order_by("id").values_list("outcome", flat=True)
        assert list(in_order) == ["died", "lease_lost"]
