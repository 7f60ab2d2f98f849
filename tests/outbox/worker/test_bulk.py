"""A bulk handler is called once for a message, and settles each delivery by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from outbox import Breaker, BulkDelivery, EventRecord, PermanentFailure, operations, subscribe
from outbox.deliveries import failpoints, lease, settlement
from outbox.models import Attempt, Delivery, Subscription
from outbox.testing import Outbox
from outbox.worker import outcome
from outbox.worker.outcome import Result
from tests.outbox.drive import (
    Died,
    die,
    emit_orders,
    expire_leases_and_backoffs,
    run_message,
    run_messages,
    run_pass,
    states,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

Deliveries = Sequence[BulkDelivery]


class Down(Exception):
    """The external system is down."""


def publish_by(publish: Callable[[Deliveries], object], **options: Any) -> list[list[int]]:
    """Subscribe a bulk handler to orders and parcels; return the numbers of each of its calls."""
    calls: list[list[int]] = []

    def export(deliveries: Deliveries) -> None:
        calls.append([one.event.payload["number"] for one in deliveries])
        publish(deliveries)

    subscribe("shops.Ordered", "shops.Returned", name="tests.export", bulk=True, **options)(export)
    return calls


def acknowledge(deliveries: Deliveries) -> None:
    for one in deliveries:
        one.done()


def run_the_message() -> list[Result]:
    [message] = run_pass()
    return run_message(message)


class TestACall:
    def test_has_all_deliveries_of_a_message(self):
        calls = publish_by(acknowledge)
        emit_orders(4)

        results = run_the_message()

        assert calls == [[0, 1, 2, 3]]
        assert [result.outcome for result in results] == ["done"] * 4
        assert states() == ["done"] * 4
        assert not Attempt.objects.exists()

    def test_mixes_the_events_of_its_one_subscription(self):
        calls = publish_by(acknowledge)
        outbox = emit_orders(1)
        outbox.given("shops.Returned", order_id=uuid4(), number=7)

        run_the_message()

        assert calls == [[0, 7]]
        assert Subscription.objects.get().event == "shops.Ordered, shops.Returned"

    def test_gets_each_event_as_a_record(self):
        records: list[EventRecord] = []
        publish_by(lambda deliveries: records.extend(one.event for one in deliveries))
        outbox = Outbox()
        row = outbox.given("shops.Ordered", order_id=uuid4(), number=3)

        run_the_message()

        [record] = records
        assert (record.id, record.name, record.key) == (row.id, "shops.Ordered", row.key)
        assert record.payload["number"] == 3
        assert record.correlation_id == row.correlation_id

    def test_opens_no_transaction(self):
        found: list[bool] = []
        publish_by(lambda deliveries: found.append(transaction.get_connection().in_atomic_block))
        emit_orders(2)

        run_the_message()

        assert found == [False]


class TestADeliveryThatFailed:
    def test_has_no_effect_on_the_others(self):
        def refuse_the_second(deliveries: Deliveries) -> None:
            for one in deliveries:
                if one.event.payload["number"] == 1:
                    one.failed(Down("busy"))
                else:
                    one.done()

        publish_by(refuse_the_second)
        emit_orders(3)

        run_the_message()

        assert states() == ["done", "pending", "done"]
        attempt = Attempt.objects.get()
        assert (attempt.exception, attempt.message) == ("Down", "busy")

    def test_is_dead_at_once_if_no_retry_can_help(self):
        publish_by(lambda deliveries: deliveries[0].failed(PermanentFailure("too large")))
        emit_orders(1)

        run_the_message()

        assert states() == ["dead"]

    def test_was_not_settled_by_the_handler(self):
        publish_by(lambda deliveries: deliveries[0].done())
        emit_orders(2)

        run_the_message()

        assert states() == ["done", "pending"]
        assert Attempt.objects.get().exception == "NotSettled"

    def test_was_not_settled_before_the_handler_raised(self):
        def stop_after_the_first(deliveries: Deliveries) -> None:
            deliveries[0].done()
            raise Down("no route")

        publish_by(stop_after_the_first)
        emit_orders(3)

        run_the_message()

        assert states() == ["done", "pending", "pending"]
        assert list(Attempt.objects.values_list("exception", flat=True)) == ["Down"] * 2

    def test_opens_the_breaker_of_all_events(self):
        breaker = Breaker(on=(Down,), failures=1, wait=60)

        def refuse(deliveries: Deliveries) -> None:
            raise Down("no route")

        calls = publish_by(refuse, breaker=breaker)
        outbox = emit_orders(3)
        run_the_message()
        outbox.given("shops.Returned", order_id=uuid4(), number=9)
        expire_leases_and_backoffs()

        assert run_pass() == []
        assert calls == [[0, 1, 2]]
        assert Subscription.objects.get().breaker_opened_at is not None


def refuse_all_but(acknowledged: set[int]) -> Callable[[Deliveries], None]:
    """Return a function that acknowledges the events with these numbers; the system is down."""

    def publish(deliveries: Deliveries) -> None:
        for one in deliveries:
            is_done = one.event.payload["number"] in acknowledged
            one.done() if is_done else one.failed(Down("busy"))

    return publish


def delay_retries() -> None:
    """Leave the retries out of the next message, however long the test takes."""
    later = timezone.now() + timedelta(days=1)
    Delivery.objects.filter(state="pending").update(due_at=later)


class TestTheBreaker:
    """It counts calls of the external system, not deliveries."""

    BREAKER = Breaker(on=(Down,), failures=2, wait=60)

    def test_counts_a_call_without_an_acknowledgement_once(self):
        publish_by(refuse_all_but(set()), breaker=self.BREAKER)
        emit_orders(3)

        run_the_message()

        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at) == (1, None)
        assert Attempt.objects.count() == 3

    def test_counts_each_call_without_an_acknowledgement(self):
        publish_by(refuse_all_but(set()), breaker=self.BREAKER)
        emit_orders(2)
        run_the_message()
        delay_retries()
        emit_orders(2)

        run_the_message()

        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at is not None) == (2, True)

    @pytest.mark.parametrize("acknowledged", [0, 2])
    def test_takes_a_call_with_an_acknowledgement_for_an_answer(self, acknowledged: int):
        """The failures before and after the acknowledged delivery do not count."""
        publish_by(refuse_all_but({acknowledged}), breaker=Breaker(on=(Down,), failures=1, wait=60))
        emit_orders(3)

        run_the_message()

        row = Subscription.objects.get()
        assert (row.breaker_failures, row.breaker_opened_at) == (0, None)
        assert sorted(states()) == ["done", "pending", "pending"]

    def test_counts_a_call_whose_first_delivery_another_worker_has(self):
        """The failure of the first delivery is not stored, so the next one counts."""

        def lose_the_first(deliveries: Deliveries) -> None:
            first = Delivery.objects.order_by("id")[0]
            Delivery.objects.filter(pk=first.pk).update(token=first.token + 1)
            raise Down("busy")

        publish_by(lose_the_first, breaker=self.BREAKER)
        emit_orders(3)

        run_the_message()

        assert Subscription.objects.get().breaker_failures == 1

    def test_forgets_earlier_failures_after_a_partly_failed_call(self):
        publish_by(refuse_all_but({10}), breaker=self.BREAKER)
        emit_orders(1)
        run_the_message()
        delay_retries()
        outbox = Outbox()
        for number in (9, 10, 11):
            outbox.given("shops.Ordered", order_id=uuid4(), number=number)

        run_the_message()

        assert Subscription.objects.get().breaker_failures == 0

    def test_uses_up_no_attempt_of_a_call_that_opened_it(self):
        """The first failure opens it. It is open when the others are stored."""
        publish_by(refuse_all_but(set()), breaker=Breaker(on=(Down,), failures=1, wait=60))
        emit_orders(3)

        run_the_message()

        attempts = Delivery.objects.order_by("id").values_list("attempts", flat=True)
        assert list(attempts) == [1, 0, 0]


class TestASettledDelivery:
    def test_cannot_be_settled_again(self):
        def settle_twice(deliveries: Deliveries) -> None:
            deliveries[0].done()
            with pytest.raises(RuntimeError, match="is settled"):
                deliveries[0].failed(Down())
            with pytest.raises(RuntimeError, match="is settled"):
                deliveries[0].done()

        publish_by(settle_twice)
        emit_orders(1)

        run_the_message()

        assert states() == ["done"]


class TestAKilledWorker:
    @pytest.mark.parametrize(
        "point",
        [failpoints.BEFORE_EFFECTS, failpoints.BEFORE_RECEIPT, failpoints.BEFORE_COMMIT],
    )
    def test_leaves_all_deliveries_owed(self, point: str):
        calls = publish_by(acknowledge)
        emit_orders(2)
        [message] = run_pass()

        with failpoints.armed(point, die), pytest.raises(Died):
            run_message(message)
        assert states() == ["sent", "sent"]
        expire_leases_and_backoffs()
        run_messages(run_pass())
        expire_leases_and_backoffs()
        run_messages(run_pass())

        assert states() == ["done", "done"]
        assert {number for call in calls for number in call} == {0, 1}

    def test_after_the_receipts_calls_the_handler_no_second_time(self):
        calls = publish_by(acknowledge)
        emit_orders(2)
        [message] = run_pass()

        with failpoints.armed(failpoints.AFTER_RECEIPT, die), pytest.raises(Died):
            run_message(message)
        run_message(message, worker="w2")

        assert calls == [[0, 1]]
        assert states() == ["done", "done"]


class TestADeliveryOfAnotherWorker:
    def test_gets_no_receipt_and_prevents_none(self):
        """Its lease passed during the call, and another worker started it again."""

        def lose_the_first(deliveries: Deliveries) -> None:
            first = Delivery.objects.order_by("id")[0]
            Delivery.objects.filter(pk=first.pk).update(token=first.token + 1)
            acknowledge(deliveries)

        publish_by(lose_the_first)
        emit_orders(3)

        results = run_the_message()

        assert states() == ["sent", "done", "done"]
        assert [result.outcome for result in results] == ["lease_lost", "done", "done"]


class TestTheLease:
    def test_is_kept_while_many_failures_are_stored(self, monkeypatch: pytest.MonkeyPatch):
        """A relay passes when the first leases would have ended."""

        def refuse(deliveries: Deliveries) -> None:
            for one in deliveries:
                one.failed(Down())

        publish_by(refuse, batch=50)
        emit_orders(4)
        monkeypatch.setattr(lease, "_RENEWED_AFTER", 0)  # so that each `keep` extends it
        stored: list[str] = []
        log = outcome.log

        def end_the_first_leases(*args: Any) -> None:
            log(*args)
            stored.append("")
            if len(stored) == 1:
                Delivery.objects.filter(state="sent").update(due_at=timezone.now())

        fail = settlement.fail

        def relay_before(*args: Any, **options: Any) -> Any:
            if len(stored) == 1:
                run_pass()
            return fail(*args, **options)

        monkeypatch.setattr(outcome, "log", end_the_first_leases)
        monkeypatch.setattr(settlement, "fail", relay_before)

        run_the_message()

        assert list(Attempt.objects.values_list("outcome", flat=True)) == ["failed"] * 4


class TestAnOrderedHandler:
    def test_has_no_two_deliveries_of_a_key_in_a_call(self):
        calls = publish_by(acknowledge, ordered=True)
        outbox = Outbox()
        key, other = uuid4(), uuid4()
        for number, order_id in enumerate([key, key, other, key]):
            outbox.given("shops.Ordered", order_id=order_id, key=str(order_id), number=number)

        while messages := run_pass():
            run_messages(messages)

        assert calls == [[0, 2], [1], [3]]
        assert states() == ["done"] * 4

    def test_releases_the_next_event_of_each_key_of_a_call(self):
        publish_by(acknowledge, ordered=True)
        outbox = Outbox()
        keys = [uuid4(), uuid4()]
        for number, order_id in enumerate(keys * 2):
            outbox.given("shops.Ordered", order_id=order_id, key=str(order_id), number=number)

        run_messages(run_pass())

        assert states() == ["done", "done", "pending", "pending"]

    def test_holds_the_later_events_of_a_key_that_failed(self):
        publish_by(lambda deliveries: deliveries[0].failed(Down()), ordered=True)
        outbox = Outbox()
        key = uuid4()
        for number in range(2):
            outbox.given("shops.Ordered", order_id=key, key=str(key), number=number)

        run_messages(run_pass())

        assert states() == ["pending", "blocked"]


class TestAReplay:
    def test_is_counted_for_systems_that_discard_known_ids(self):
        replays: list[int] = []

        def note(deliveries: Deliveries) -> None:
            replays.extend(one.replays for one in deliveries)
            acknowledge(deliveries)

        publish_by(note)
        emit_orders(1)
        run_the_message()
        choice = operations.Choice(handler="tests.export", states=("done",))

        for _ in range(2):
            operations.replay(choice, by="ann", reason="lost there")
            run_messages(run_pass())

        assert replays == [0, 1, 2]


class TestTheSignature:
    def test_is_one_list_of_deliveries(self):
        with pytest.raises(TypeError, match="takes only `deliveries`"):

            @subscribe("shops.Ordered", bulk=True)
            def export(order_id: UUID) -> None: ...

    def test_cannot_be_inline(self):
        with pytest.raises(TypeError, match="inline=True"):

            @subscribe("shops.Ordered", bulk=True, inline=True)
            def export(deliveries: Deliveries) -> None: ...


class TestAnEffectInTheDatabase:
    def test_is_rolled_back_with_its_own_transaction_only(self):
        """The handler's own transactions are its affair: there is no common one."""

        def store(deliveries: Deliveries) -> None:
            with transaction.atomic():
                Group.objects.create(name="kept")
            raise Down

        publish_by(store)
        emit_orders(1)

        run_the_message()

        assert Group.objects.filter(name="kept").exists()
        assert states() == ["pending"]
