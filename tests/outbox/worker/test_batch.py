"""A batch runs many deliveries in one transaction. A failure has no effect on the others."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F

from outbox import DomainEvent, PermanentFailure, emit, subscribe
from outbox.deliveries import failpoints
from outbox.models import Attempt, Delivery, Event
from outbox.worker import batch
from outbox.worker.outcome import Result
from tests.outbox.drive import (
    Died,
    die,
    emit_orders,
    expire_leases_and_backoffs,
    run_message,
    run_pass,
    states,
)
from tests.threads import aside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


def run_the_message() -> list[Result]:
    [message] = run_pass()
    return run_message(message)


def effects() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch share its transaction however slow the machine is."""
    monkeypatch.setattr(batch, "MOST_SECONDS", 60)


@pytest.fixture
def commits():
    """The number of states in which deliveries were, at each commit of receipts."""
    seen: list[int] = []

    def note() -> None:
        seen.append(Delivery.objects.filter(state="done").count())

    with failpoints.armed(failpoints.AFTER_RECEIPT, note):
        yield seen


class TestAMessage:
    def test_is_delivered_in_one_transaction(self, commits: list[int]):
        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        emit_orders(4)

        results = run_the_message()

        assert commits == [4]
        assert effects() == ["0", "1", "2", "3"]
        assert [result.outcome for result in results] == ["done"] * 4
        assert states() == ["done"] * 4

    def test_is_delivered_in_several_transactions_if_it_takes_long(self, commits, monkeypatch):
        """Seen to fail without the bound: what the first locks is locked until the last is done."""
        monkeypatch.setattr(batch, "MOST_SECONDS", 0)

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        emit_orders(3)

        run_the_message()

        assert commits == [1, 2, 3]
        assert effects() == ["0", "1", "2"]

    def test_is_delivered_one_by_one_if_the_handler_requires_it(self, commits: list[int]):
        @subscribe("shops.Ordered", shared_transaction=False)
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        emit_orders(3)

        run_the_message()

        assert commits == [1, 2, 3]

    def test_gives_each_emitted_event_its_own_cause(self):
        """Seen to fail with one `caused_by` around all calls."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            emit(Counted(order_id=order_id))

        emit_orders(3)

        run_the_message()

        causes = dict(Event.objects.filter(name="shops.Ordered").values_list("key", "id"))
        emitted = Event.objects.filter(name="tests.Counted").values_list("key", "causation_id")
        assert dict(emitted) == causes


class TestACallThatRaises:
    @pytest.mark.parametrize("error", [ValueError, PermanentFailure])
    def test_is_rolled_back_without_an_effect_on_its_neighbours(self, error: type[Exception]):
        """Seen to fail with the batch kept although a call in it raised."""

        @subscribe("shops.Ordered")
        def count(number: int, order_id: UUID) -> None:
            Group.objects.create(name=str(number))
            emit(Counted(order_id=order_id))
            if number == 2:
                raise error

        emit_orders(5)

        results = run_the_message()

        assert effects() == ["0", "1", "3", "4"]
        assert Event.objects.filter(name="tests.Counted").count() == 4
        assert states()[2] in {"pending", "dead"}
        assert states().count("done") == 4
        assert Attempt.objects.get().number == 1
        assert sorted(result.delivery_id for result in results) == sorted(
            Delivery.objects.values_list("id", flat=True)
        )

    def test_is_recorded_once_each_if_all_raise(self):
        @subscribe("shops.Ordered")
        def count() -> None:
            raise ValueError

        emit_orders(4)

        run_the_message()

        assert states() == ["pending"] * 4
        assert list(Attempt.objects.values_list("number", flat=True)) == [1] * 4

    @pytest.mark.postgresql
    def test_is_detected_although_it_hides_its_broken_transaction(self):
        """The next call's first query fails. Seen to fail with that call recorded as failed."""

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            if number == 1:  # without a savepoint around it
                with suppress(IntegrityError):
                    Group.objects.create(name="taken")
                return
            Group.objects.create(name=str(number))

        Group.objects.create(name="taken")
        emit_orders(4)

        run_the_message()

        assert effects() == ["0", "2", "3", "taken"]
        assert states() == ["done", "pending", "done", "done"]


class TestADeferredConstraint:
    def test_that_fails_at_the_commit_has_no_effect_on_its_neighbours(self):
        """It fails outside of every call. Seen to fail with each call recorded as failed."""

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))
            if number == 1:
                Permission.objects.create(name="x", codename="x", content_type_id=2_000_000)

        emit_orders(4)

        run_the_message()

        assert effects() == ["0", "2", "3"]
        assert states() == ["done", "pending", "done", "done"]
        assert Attempt.objects.get().exception == "IntegrityError"


class TestACommitWhoseAnswerIsLost:
    def test_counts_as_a_commit(self, monkeypatch):
        """The database committed it. Seen to fail without the check of the receipts."""
        commit, is_lost = connection.commit, []

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))
            is_lost.append(number)

        def lose_the_answer() -> None:
            commit()
            if is_lost:
                is_lost.clear()
                raise OperationalError("the answer is lost")

        monkeypatch.setattr(connection, "commit", lose_the_answer)
        emit_orders(3)

        results = run_the_message()

        assert effects() == ["0", "1", "2"]
        assert states() == ["done"] * 3
        assert [result.outcome for result in results] == ["done"] * 3
        assert not Attempt.objects.exists()


class TestALostToken:
    def test_rolls_back_its_run_without_an_effect_on_its_neighbours(self):
        """Seen to fail with receipts that are written whatever the token."""

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        emit_orders(3)
        lost = Event.objects.order_by("seq")[1]

        def give_to_another() -> None:
            Delivery.objects.filter(event=lost).update(token=F("token") + 1)

        with failpoints.armed(failpoints.AFTER_START, give_to_another):
            run_the_message()

        assert effects() == ["0", "2"]
        assert states() == ["done", "sent", "done"]
        assert Attempt.objects.get().outcome == "lease_lost"


class TestAWorkerThatDies:
    @pytest.mark.parametrize(
        "point",
        [
            failpoints.BEFORE_START,
            failpoints.AFTER_START,
            failpoints.BEFORE_EFFECTS,
            failpoints.BETWEEN_DELIVERIES,
            failpoints.BEFORE_RECEIPT,
            failpoints.BEFORE_COMMIT,
            failpoints.AFTER_RECEIPT,
        ],
    )
    def test_leaves_all_or_no_effects_and_each_delivery_is_done_once(self, point: str):
        """Seen to fail with the receipts in a transaction of their own."""

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            Group.objects.create(name=str(number))

        emit_orders(3)
        with suppress(Died), failpoints.armed(point, die):
            run_the_message()
        assert effects() == (["0", "1", "2"] if point == failpoints.AFTER_RECEIPT else [])

        for _ in range(2):  # the relay sees that it died, then sends again what it had
            expire_leases_and_backoffs()
            for message in run_pass():
                run_message(message, worker="w2")

        assert effects() == ["0", "1", "2"]
        assert states() == ["done"] * 3


class TestACallbackAfterTheCommit:
    def test_that_raises_does_not_prevent_those_of_its_neighbours(self):
        """Seen to fail with callbacks as the handlers left them."""
        handled: list[int] = []

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            def call_back() -> None:
                if number == 0:
                    raise ValueError
                handled.append(number)

            transaction.on_commit(call_back)

        emit_orders(3)

        run_the_message()

        assert handled == [1, 2]
        assert states() == ["done"] * 3
        assert not Attempt.objects.exists()


@pytest.mark.postgresql
class TestARowLockedByAnotherTransaction:
    def test_delays_its_neighbours_only_briefly(self):
        """Seen to hang without `lock_timeout`: all of them wait as long as it is locked."""
        row = Group.objects.create(name="contended")
        others_are_done, is_locked = threading.Event(), threading.Event()

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            if number == 3:
                Group.objects.select_for_update().get(pk=row.pk)
            Group.objects.create(name=str(number))

        def keep_it_locked() -> None:
            with transaction.atomic():
                Group.objects.select_for_update().get(pk=row.pk)
                is_locked.set()
                others_are_done.wait(60)

        def let_go() -> None:
            if len(effects()) == 4:
                others_are_done.set()

        emit_orders(4)
        with ExitStack() as stack:
            stack.enter_context(failpoints.armed(failpoints.AFTER_RECEIPT, let_go))
            other = threading.Thread(target=aside, args=[keep_it_locked])
            other.start()
            assert is_locked.wait(60)
            run_the_message()
            was_released = others_are_done.is_set()
            others_are_done.set()
            other.join()

        assert was_released
        assert states() == ["done"] * 4

    def test_is_waited_for_by_a_handler_that_would_hide_the_error(self):
        """Failed while the short wait of a batch was an error to the handler: its fallback was
        stored, where alone it would have waited.
        """
        row = Group.objects.create(name="contended")
        is_locked, may_end = threading.Event(), threading.Event()

        @subscribe("shops.Ordered")
        def count(number: int) -> None:
            try:
                with transaction.atomic():
                    Group.objects.select_for_update().get(pk=row.pk)
            except OperationalError:
                may_end.set()
                Group.objects.create(name=f"{number} without the lock")
            else:
                Group.objects.create(name=str(number))

        def keep_it_locked() -> None:
            with transaction.atomic():
                Group.objects.select_for_update().get(pk=row.pk)
                is_locked.set()
                assert may_end.wait(60)

        emit_orders(2)
        other = threading.Thread(target=aside, args=[keep_it_locked])
        other.start()
        assert is_locked.wait(60)
        run_the_message()
        other.join()

        assert states() == ["done"] * 2
        assert effects() == ["0", "1", "contended"]
