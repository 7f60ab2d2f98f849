"""The commits of relay and worker, in real transactions."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from outbox import DomainEvent, LeaseLost, Receipt, emit, operations, subscribe
from outbox.deliveries import failpoints
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.relay.passes import relay_pass
from outbox.transports.base import Message
from tests.outbox.drive import (
    Died,
    die,
    emit_orders,
    expire_leases_and_backoffs,
    run_message,
    run_messages,
    run_pass,
)
from tests.threads import aside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


class TestTheRelay:
    def test_publishes_committed_deliveries_without_an_open_transaction(self):
        """Rule 7. Seen to fail with `publish` called inside the transaction of `plan`."""

        @subscribe("shops.Ordered")
        def count() -> None: ...

        is_open: list[bool] = []
        stored: list[str] = []

        def publish(message: Message) -> None:
            is_open.append(connection.in_atomic_block)
            aside(lambda: stored.extend(Delivery.objects.values_list("state", flat=True)))

        emit_orders()

        relay_pass(publish=publish)

        assert is_open == [False]
        assert stored == ["sent"]

    def test_stores_nothing_of_a_pass_that_fails_with_its_last_statement(self):
        """Seen to fail on PostgreSQL with a COMMIT between the mark and the deliveries."""

        @subscribe("shops.Ordered")
        def count() -> None: ...

        emit_orders()
        emit_orders()
        taken = Event.objects.latest("seq")
        there = Delivery.objects.create(
            event=taken, subscription=Subscription.objects.get(), due_at=taken.emitted_at
        )

        with pytest.raises(IntegrityError):  # an event has one delivery for each handler
            run_pass()

        assert list(Delivery.objects.all()) == [there]
        assert not Event.objects.exclude(fanned_out_at=None).exists()
        there.delete()
        [message] = run_pass()
        assert len(message.pairs) == 2

    def test_keeps_a_sent_delivery_owed_until_the_handler_commits(self):
        """Rule 3. Seen to fail with the delivery done as soon as it is published."""

        @subscribe("shops.Ordered")
        def count() -> None: ...

        emit_orders()
        [message] = run_pass()
        assert Delivery.objects.get().is_owed

        run_message(message)

        assert not Delivery.objects.get().is_owed

    def test_that_dies_before_it_publishes_leaves_the_deliveries_to_the_next(self):
        """Rules 3 and 7. Seen to fail with `_settle_lapsed` doing nothing."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))

        emit_orders()
        with pytest.raises(Died):
            relay_pass(publish=lambda message: die())

        expire_leases_and_backoffs()
        run_messages(run_pass())

        assert Delivery.objects.values_list("state", "token", "attempts").get() == ("done", 2, 1)
        assert Group.objects.count() == 1


class TestAHandlerWhoseProcessDies:
    @pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "with receipt"])
    def test_before_the_commit_leaves_no_effect_and_is_repeated_once(self, atomic: bool):
        """Rules 3 and 6. Seen to fail with the receipt written in a transaction of its own,
        whether before the effects or after them.
        """

        def act(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))
            emit(Counted(order_id=order_id))

        if atomic:

            @subscribe("shops.Ordered", backoff_base=0)
            def count(order_id: UUID) -> None:
                act(order_id)
        else:

            @subscribe("shops.Ordered", atomic=False, backoff_base=0)
            def charge(order_id: UUID, receipt: Receipt) -> None:
                with receipt:
                    act(order_id)

        outbox = emit_orders()
        with pytest.raises(Died), failpoints.armed(failpoints.BEFORE_RECEIPT, die):
            run_messages(run_pass())
        assert not Group.objects.exists()
        assert not outbox.all_emitted()
        assert Delivery.objects.get().is_owed

        expire_leases_and_backoffs()
        outbox.deliver_all()  # finds the dead worker
        outbox.deliver_all()

        assert Group.objects.count() == 1
        assert outbox.emitted("tests.Counted")
        assert [attempt.outcome for attempt in Attempt.objects.all()] == ["died"]


class TestAnEventThatAHandlerEmits:
    def test_is_removed_with_a_savepoint_that_is_rolled_back(self):
        """Rules 1 and 6: the event exists if and only if the change next to it does."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name="kept")
            with suppress(ValueError), transaction.atomic():
                Group.objects.create(name="undone")
                emit(Counted(order_id=uuid4()))
                raise ValueError
            emit(Counted(order_id=order_id))

        outbox = emit_orders()

        outbox.deliver_all()

        assert Group.objects.get().name == "kept"
        emitted = outbox.emitted("tests.Counted")
        assert str(emitted.order_id) == Event.objects.get(name="shops.Ordered").key

    def test_is_removed_with_a_transaction_that_is_marked_for_rollback(self):
        """Rule 6. The receipt cannot be written then, so the run has failed."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            emit(Counted(order_id=order_id))
            transaction.set_rollback(True)

        outbox = emit_orders()

        outbox.deliver_all(raise_errors=False)

        assert not outbox.all_emitted()
        assert Delivery.objects.get().state == "pending"
        assert Attempt.objects.get().exception == "TransactionManagementError"


class TestALostLease:
    def test_rolls_back_an_atomic_handler(self):
        """Rule 6. Seen to fail where nobody looks whether the receipt found its row."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID) -> None:
            Delivery.objects.update(token=F("token") + 1)  # as the relay does
            Group.objects.create(name="late")
            emit(Counted(order_id=order_id))

        outbox = emit_orders()

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert not outbox.all_emitted()
        assert Attempt.objects.get().outcome == "lease_lost"

    def test_rolls_back_a_handler_that_hides_it(self):
        """Rule 6. Seen to fail with the token removed from `_receipt_transaction`."""

        @subscribe("shops.Ordered", atomic=False)
        def charge(order_id: UUID, receipt: Receipt) -> None:
            Delivery.objects.update(token=F("token") + 1)  # as the relay does
            with suppress(LeaseLost), receipt:
                Group.objects.create(name="late")
                emit(Counted(order_id=order_id))

        outbox = emit_orders()

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert not outbox.all_emitted()
        assert Delivery.objects.values_list("state", "token").get() == ("sent", 2)
        assert Attempt.objects.get().outcome == "lease_lost"


class TestAnOperationDuringARun:
    def test_retry_starts_no_second_run(self):
        """Seen to fail with "sent" among the states that `retry` touches."""
        runs: list[int] = []

        @subscribe("shops.Ordered", atomic=False)
        def charge(order_id: UUID, receipt: Receipt) -> None:
            runs.append(1)
            aside(lambda: retried.append(operations.retry(operations.Choice(), by="ann").touched))
            with receipt:
                Group.objects.create(name=str(order_id))

        retried: list[int] = []
        outbox = emit_orders()

        outbox.deliver_all()

        assert (retried, runs) == ([0], [1])
        assert Delivery.objects.values_list("state", "token").get() == ("done", 1)

    def test_pause_lets_the_run_end_and_starts_no_other(self):
        """Rule 13. Seen to fail without the look at `paused_at` in `_start`."""

        @subscribe("shops.Ordered", atomic=False, window=2)
        def charge(order_id: UUID, receipt: Receipt) -> None:
            aside(lambda: operations.pause("tests.charge", by="ann", reason="a test"))
            with receipt:
                Group.objects.create(name=str(order_id))

        outbox = emit_orders()
        outbox.given("shops.Ordered", order_id=uuid4())
        first, second = run_pass()

        run_message(first)
        run_message(second)

        states = Delivery.objects.order_by("id").values_list("state", "attempts")
        assert list(states) == [("done", 1), ("parked", 0)]
        assert Group.objects.count() == 1

    def test_prune_keeps_the_event(self):
        """Rule 2. Seen to fail with "sent" left out of `Delivery.OWED`."""
        pruned: list[int] = []

        @subscribe("shops.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            aside(lambda: pruned.append(operations.prune(older_than=timedelta(days=1))))
            with receipt:
                pass

        outbox = emit_orders()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=99))

        outbox.deliver_all()

        assert pruned == [0]
        assert Event.objects.get().deliveries.get().state == "done"


@pytest.mark.postgresql
class TestPruneDuringARetry:
    def test_keeps_the_event_that_is_retried(self):
        """Rule 2. Seen to fail with "dead" left out of `Delivery.OWED`."""

        @subscribe("shops.Ordered", attempts=1)
        def count() -> None:
            if Subscription.objects.filter(pause_reason="mended").exists():
                return
            raise ValueError

        outbox = emit_orders()
        outbox.deliver_all(raise_errors=False)
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=99))
        removed: list[int] = []

        with transaction.atomic():
            assert operations.retry(operations.Choice(), by="ann").touched == 1
            aside(lambda: removed.append(operations.prune(older_than=timedelta(days=1))))
        Subscription.objects.update(pause_reason="mended")
        outbox.deliver_all()

        assert removed == [0]
        assert Delivery.objects.get().state == "done"
