from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, transaction

from outbox import (
    DomainEvent,
    PermanentFailure,
    Receipt,
    acting_as,
    emit,
    operations,
    subscribe,
)
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.testing import Outbox
from outbox.worker.delivery import deliver
from tests.outbox.drive import expire_leases_and_backoffs, run_message, run_pass

pytestmark = pytest.mark.usefixtures("own_registry")


class Ordered(DomainEvent, key="order_id"):
    order_id: UUID
    quantity: int = 1


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


def emit_order(outbox: Outbox) -> Event:
    return outbox.given("tests.Ordered", order_id=uuid4())


def claim(delivery: Delivery) -> list[tuple[int, int]]:
    """Mark a delivery as sent with a new token, as the relay does."""
    delivery.state, delivery.token = Delivery.State.SENT, delivery.token + 1
    delivery.save()
    return [(delivery.id, delivery.token)]


class TestAnAtomicHandler:
    def test_commits_effects_events_and_receipt(self):
        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))
            emit(Counted(order_id=order_id))

        outbox = Outbox()
        event = emit_order(outbox)

        outbox.deliver_all(twice=True)

        assert Group.objects.filter(name=event.key).count() == 1
        assert str(outbox.emitted("tests.Counted").order_id) == event.key
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.worker) == ("done", "test")
        assert delivery.settled_at is not None

    def test_leaves_only_the_attempt_when_it_raises(self):
        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name="half made")
            emit(Counted(order_id=order_id))
            raise RuntimeError("no luck\x00 today")

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert not outbox.all_emitted()
        attempt = Attempt.objects.get()
        assert (attempt.number, attempt.outcome) == (1, "failed")
        assert (attempt.exception, attempt.message) == ("RuntimeError", "no luck\\x00 today")
        assert attempt.place.startswith("tests.outbox.worker.test_delivery:")
        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts) == ("pending", 1)

    def test_is_dead_after_its_last_attempt(self):
        @subscribe("tests.Ordered", attempts=2, backoff_base=0)
        def count() -> None:
            raise RuntimeError

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert Delivery.objects.get().state == "dead"
        assert Attempt.objects.count() == 2

    def test_is_dead_immediately_after_a_permanent_failure(self):
        @subscribe("tests.Ordered")
        def count() -> None:
            raise PermanentFailure("this order cannot be counted")

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        delivery = Delivery.objects.get()
        assert delivery.state == "dead"
        assert "cannot be counted" in delivery.note
        assert Attempt.objects.get().outcome == "refused"

    def test_may_raise_an_exception_without_a_readable_text(self):
        class Unreadable(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        @subscribe("tests.Ordered")
        def count() -> None:
            raise Unreadable

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        attempt = Attempt.objects.get()
        assert (attempt.exception, attempt.message) == ("Unreadable", "(its text cannot be read)")
        assert Delivery.objects.get().state == "pending"

    def test_delays_no_other_handler_when_it_fails(self):
        @subscribe("tests.Ordered")
        def fail() -> None:
            raise RuntimeError

        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            Group.objects.create(name=str(order_id))

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        states = Delivery.objects.values_list("subscription__handler", "state")
        assert dict(states) == {"tests.fail": "pending", "tests.count": "done"}

    def test_uses_up_no_attempt_while_the_database_is_locked(self):
        runs = []

        @subscribe("tests.Ordered")
        def count() -> None:
            runs.append(1)
            if len(runs) == 1:
                raise OperationalError("database is locked")

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all()

        assert len(runs) == 2
        assert Delivery.objects.get().attempts == 1
        assert not Attempt.objects.exists()

    def test_is_released_if_the_database_stays_locked(self):
        @subscribe("tests.Ordered")
        def count() -> None:
            raise OperationalError("database is locked")

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts) == ("pending", 0)
        assert "database is locked" in delivery.note
        assert Attempt.objects.get().outcome == "database"

    def test_has_failed_if_the_database_stays_locked_for_long(self):
        """Failed while such an error used up no attempt however often it came."""

        @subscribe("tests.Ordered", attempts=2)
        def count() -> None:
            raise OperationalError("database is locked")

        outbox = Outbox()
        emit_order(outbox)

        for _ in range(7):
            outbox.deliver_all(raise_errors=False)
            outbox.let_pass(dt.timedelta(days=1))

        assert Delivery.objects.get().state == "dead"
        outcomes = Attempt.objects.order_by("id").values_list("outcome", flat=True)
        assert list(outcomes) == ["database"] * 5 + ["failed"] * 2

    @pytest.mark.parametrize("end", ["failed", "refused", "done"])
    def test_may_have_errors_of_the_database_again_after_a_retry_or_replay(self, end: str):
        """Failed: the first one used up the only attempt, as if those before had just happened."""
        locked = OperationalError("database is locked")
        ends: dict[str, list[Exception]] = {
            "failed": [locked],
            "refused": [PermanentFailure("no")],
            "done": [],
        }
        raised: list[Exception] = [locked]

        @subscribe("tests.Ordered", attempts=1)
        def count() -> None:
            if raised:
                raise raised[0]

        outbox = Outbox()
        emit_order(outbox)
        for number in range(6):
            if number == 5:
                raised[:] = ends[end]
            outbox.deliver_all(raise_errors=False)
            outbox.let_pass(dt.timedelta(days=1))
        repeat = operations.replay if end == "done" else operations.retry
        assert repeat(operations.Choice(), by="ann", reason="a test").touched == 1

        raised[:] = [locked]
        outbox.deliver_all(raise_errors=False)

        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts) == ("pending", 0)


class TestAHandlerWithReceipt:
    def test_calls_the_external_system_first_and_commits_with_its_receipt(self):
        calls = []

        @subscribe("tests.Ordered", atomic=False)
        def charge(order_id: UUID, receipt: Receipt) -> None:
            calls.append(transaction.get_connection().in_atomic_block)
            with receipt:
                Group.objects.create(name=str(order_id))
                emit(Counted(order_id=order_id))

        outbox = Outbox()
        event = emit_order(outbox)

        outbox.deliver_all(twice=True)

        assert len(calls) == 2
        assert Group.objects.filter(name=event.key).count() == 1
        assert outbox.emitted("tests.Counted")
        assert Delivery.objects.get().state == "done"

    def test_has_failed_if_it_returns_without_its_receipt(self):
        @subscribe("tests.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            pass

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert Delivery.objects.get().state == "pending"
        assert Attempt.objects.get().exception == "ReceiptNotGiven"

    @pytest.mark.django_db(transaction=True)
    def test_has_failed_if_it_enters_its_receipt_within_a_transaction(self):
        """Failed: its rollback undid the receipt, and the delivery was reported as done."""

        @subscribe("tests.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            with transaction.atomic():
                with receipt:
                    Group.objects.create(name="charged")
                transaction.set_rollback(True)

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert Delivery.objects.get().state == "pending"
        attempt = Attempt.objects.get()
        assert "enters its receipt within a transaction" in attempt.message

    def test_has_failed_if_it_hides_an_error_within_its_receipt(self):
        @subscribe("tests.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            try:
                with receipt:
                    Group.objects.create(name="half made")
                    raise RuntimeError
            except RuntimeError:
                pass

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert Delivery.objects.get().state == "pending"

    def test_writes_nothing_if_its_lease_was_lost(self):
        @subscribe("tests.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None:
            Delivery.objects.update(token=7)  # the relay gave it to another worker meanwhile
            with receipt:
                Group.objects.create(name="late")

        outbox = Outbox()
        emit_order(outbox)

        outbox.deliver_all(raise_errors=False)

        assert not Group.objects.exists()
        assert Attempt.objects.get().outcome == "lease_lost"
        assert Delivery.objects.get().state == "sent"


class TestAMessage:
    def test_is_ignored_when_it_arrives_again(self):
        runs = []

        @subscribe("tests.Ordered")
        def count() -> None:
            runs.append(1)

        outbox = Outbox()
        emit_order(outbox)
        outbox.deliver_all()
        delivery = Delivery.objects.get()

        results = deliver(handler_name="tests.count", pairs=[(delivery.id, 1)], worker="other")

        assert not results
        assert len(runs) == 1

    def test_is_ignored_if_its_delivery_has_started_since_and_was_sent_again(self):
        @subscribe("tests.Ordered")
        def count() -> None:
            raise AssertionError

        outbox = Outbox()
        emit_order(outbox)
        with pytest.raises(AssertionError):
            outbox.deliver_all()
        delivery = Delivery.objects.get()
        claim(delivery)

        results = deliver(handler_name="tests.count", pairs=[(delivery.id, 1)], worker="old")

        assert not results
        delivery.refresh_from_db()
        assert (delivery.attempts, delivery.worker) == (1, "test")

    @pytest.mark.parametrize("ordered", [False, True])
    def test_runs_although_another_one_was_sent_since(self, ordered: bool):
        """Seen to fail with `token = %s`: in a slow queue each message is older than a lease."""
        runs = []

        @subscribe("tests.Ordered", ordered=ordered)
        def count() -> None:
            runs.append(1)

        emit_order(Outbox())
        [late] = run_pass()
        expire_leases_and_backoffs()
        [next_one] = run_pass()
        assert [message.pairs[0][1] for message in (late, next_one)] == [1, 2]

        assert len(run_message(late)) == 1
        assert not run_message(next_one)
        assert not run_message(late)

        delivery = Delivery.objects.get()
        assert (delivery.state, delivery.attempts, delivery.token) == ("done", 1, 2)
        assert len(runs) == 1

    def test_is_released_by_code_without_its_handler(self):
        @subscribe("tests.Ordered")
        def count() -> None: ...

        emit_order(Outbox())
        Subscription.objects.update(handler="tests.newer_handler")  # as a newer release migrated
        delivery = Delivery(
            event=Event.objects.get(),
            subscription=Subscription.objects.get(handler="tests.newer_handler"),
            due_at=dt.datetime.now(dt.UTC),
        )
        pairs = claim(delivery)

        results = deliver(handler_name="tests.newer_handler", pairs=pairs, worker="old@host")

        assert not results
        delivery.refresh_from_db()
        assert (delivery.state, delivery.attempts) == ("pending", 0)
        assert "old@host has no handler tests.newer_handler" in delivery.note


class TestArguments:
    def test_are_converted_to_the_types_of_the_handler(self):
        seen = []

        @subscribe("shops.Ordered")
        def pack(order_id: UUID, lines: list[Line], actor: str, event_id: UUID) -> None:
            seen.append((order_id, lines, actor, event_id))

        outbox = Outbox()
        order_id = uuid4()
        event = outbox.given(
            "shops.Ordered",
            order_id=order_id,
            lines=[{"sku": "A", "quantity": 2, "colour": "red"}],
        )

        outbox.deliver_all()

        assert seen == [(order_id, [Line("A", 2)], "test", event.id)]

    def test_that_do_not_fit_are_a_permanent_failure(self):
        @subscribe("shops.Ordered")
        def pack(order_id: UUID, quantity: int) -> None: ...

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4(), quantity="many")

        outbox.deliver_all(raise_errors=False)

        delivery = Delivery.objects.get()
        assert delivery.state == "dead"
        assert "cannot read quantity" in delivery.note


class TestCause:
    def test_is_kept_if_a_handler_names_another_actor(self):
        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            with acting_as("job:count"):
                emit(Counted(order_id=order_id))

        outbox = Outbox()
        first = emit_order(outbox)

        outbox.deliver_all()

        second = Event.objects.get(name="tests.Counted")
        assert (second.causation_id, second.actor) == (first.id, "job:count")

    def test_is_passed_from_event_to_event_automatically(self):
        @subscribe("tests.Ordered")
        def count(order_id: UUID) -> None:
            emit(Counted(order_id=order_id))

        outbox = Outbox()
        first = emit_order(outbox)

        outbox.deliver_all()

        second = Event.objects.get(name="tests.Counted")
        assert second.correlation_id == first.correlation_id
        assert second.causation_id == first.id
        assert second.emitted_by == "tests.count"
        assert second.actor == first.actor == "test"
