"""A breaker holds a handler while an external system is unavailable, and saves attempts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import OperationalError
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from hypothesis import given as for_all
from hypothesis import strategies as st

from outbox import (
    Breaker,
    BulkDelivery,
    NotCalled,
    PermanentFailure,
    Receipt,
    operations,
    subscribe,
)
from outbox.deliveries import settlement
from outbox.deliveries.decisions import Circuit, after_call_failed
from outbox.deliveries.sync import sync_subscriptions
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Attempt, Delivery, Operation, Subscription
from outbox.monitor.diagnosis import why
from outbox.subscriptions import find
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.transports.nudge import nudge
from outbox.worker.start import start
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import emit_orders, run_message, run_messages, run_pass, states
from tests.threads import run_together

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")

NOW = datetime.fromisoformat("2030-01-01T00:00:00Z")
MANY = 300


class BankDown(Exception):
    pass


class Bank:
    """An external system that counts its requests."""

    def __init__(self) -> None:
        self.error: Exception | None = BankDown("no answer")
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if self.error:
            raise self.error.with_traceback(None)  # else it grows with each call


@pytest.fixture
def bank(db: None) -> Bank:
    bank = Bank()

    @subscribe(
        "shops.Ordered",
        atomic=False,
        window=50,
        lease=60,
        breaker=Breaker(on=(BankDown,), failures=5, wait=30, longest=900),
    )
    def charge(receipt: Receipt) -> None:
        bank.ask()
        with receipt:
            pass

    sync_subscriptions()
    return bank


def row() -> Subscription:
    return Subscription.objects.get()


def started(message: Message) -> Delivery:
    """Start the only delivery of a message, as its worker does."""
    handler, access = find(message.handler), DatabaseAccess("default")
    assert handler is not None
    [found] = start(handler, message.pairs, worker="w1", access=access)
    return found


class TestAnUnavailableBank:
    def test_does_not_use_up_the_attempts_of_a_long_backlog(self, bank):
        """Seen to fail without the breaker: by the end of the day each was tried a dozen times.

        Without `held_until` in `after_failure` the probe's attempts run out.
        """
        with time_machine.travel(NOW, tick=False) as clock:
            outbox = emit_orders(MANY)
            for _ in range(24 * 12):
                outbox.deliver_all(raise_errors=False)
                clock.shift(timedelta(minutes=5))

        states = list(Delivery.objects.values_list("state", "attempts"))
        assert {state for state, _ in states} == {"pending"}
        assert sum(attempts for _, attempts in states) == 5, "those that opened it"
        assert 24 * 3 <= bank.asked <= 5 + 24 * 5
        assert Attempt.objects.count() == bank.asked, "each is remembered"

    def test_stays_unavailable_after_a_probe_that_did_not_call_it(self, bank):
        """Seen to close the breaker, or to delay the next probe until the end of the lease."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(6)
            run_messages(run_pass())
            opened_at, later = row().breaker_opened_at, NOW + timedelta(minutes=5)
            clock.move_to(later)
            bank.error = NotCalled("Asked recently.", retry_after=600)
            [probe] = run_pass()
            run_message(probe)

            assert row().breaker_opened_at == opened_at is not None
            assert row().breaker_probe_at == later
            probed = Attempt.objects.filter(exception="NotCalled").get().delivery
            assert probed.attempts == 0
            assert probed.due_at == later + timedelta(minutes=10)
            bank.error = None
            assert len(run_pass()) == 1, "another delivery is the next probe"

    def test_is_probed_at_once_after_a_probe_that_asks_for_no_wait(self, bank):
        """Failed: a wait of zero was taken for no wait, so the backoff of the handler applied."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(6)
            run_messages(run_pass())
            later = NOW + timedelta(minutes=5)
            clock.move_to(later)
            bank.error = NotCalled("Asked in another process.", retry_after=0)
            [probe] = run_pass()
            run_message(probe)

            probed = Attempt.objects.filter(exception="NotCalled").get().delivery
            assert probed.due_at == later

    def test_gets_one_probe_at_a_time_at_growing_intervals(self, bank):
        with time_machine.travel(NOW, tick=False) as clock:
            outbox = emit_orders(MANY)
            outbox.deliver_all(raise_errors=False)
            assert bank.asked == 5
            probes = []
            for _ in range(400):
                clock.shift(timedelta(seconds=10))
                asked = bank.asked
                for _ in range(3):
                    outbox.deliver_all(raise_errors=False)
                assert bank.asked <= asked + 1
                if bank.asked > asked:
                    probes.append(row().breaker_wait)

        assert probes[:6] == [60, 120, 240, 480, 900, 900]

    def test_gets_the_backlog_gradually_after_its_recovery(self, bank):
        with time_machine.travel(NOW, tick=False) as clock:
            outbox = emit_orders(MANY)
            outbox.deliver_all(raise_errors=False)
            clock.shift(timedelta(hours=3))
            bank.error = None
            run_messages(run_pass())
            assert row().breaker_opened_at is None
            first = run_pass()
            outbox_states = Delivery.objects.filter(state="done").count()

        assert outbox_states == 1
        assert len(first) <= 2, "the window starts at one and is doubled"
        run_messages(first)
        with time_machine.travel(NOW + timedelta(hours=4), tick=False):
            outbox.deliver_all()
        assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}

    def test_costs_a_pass_two_reads(self, bank, django_assert_num_queries):
        """Seen to fail with an open breaker's deliveries among what is busy."""
        emit_orders(MANY).deliver_all(raise_errors=False)

        with django_assert_num_queries(2):
            assert run_pass() == []

    def test_gets_another_probe_if_one_is_lost(self, bank):
        """Seen to fail without `breaker_probe_at` moved by the relay: all hang on one message."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [lost] = run_pass()
            assert run_pass() == []
            clock.shift(timedelta(seconds=61))

            [again] = run_pass()
            bank.error = None
            run_messages([lost, again])

        assert row().breaker_opened_at is None
        assert Delivery.objects.filter(state="done").count() == 1

    @pytest.mark.parametrize("is_nudged", [False, True])
    def test_is_available_again_although_its_queue_takes_longer_than_a_lease(self, bank, is_nudged):
        """Failed: each late message was of another delivery than the probe, so none could start."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            bank.error = None
            [late] = run_pass()
            clock.shift(timedelta(seconds=61))

            probes = [*run_pass(is_nudged=is_nudged), *run_pass()]
            clock.shift(timedelta(seconds=29))
            run_message(late)

        assert [[pk for pk, _token in one.pairs] for one in probes] == [[late.pairs[0][0]]]
        assert row().breaker_opened_at is None
        assert Delivery.objects.filter(state="done").count() == 1

    def test_gets_another_probe_soon_if_one_is_handed_back(self, bank):
        """Failed: the next one was sent when the lease of the first had passed."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [message] = run_pass()

            settlement.hand_back(
                message.pairs,
                note="no thread of its worker was idle",
                subscription=message.subscription,
                wait=0,
                using="default",
            )

            assert [len(one.pairs) for one in run_pass()] == [1]

    def test_gets_another_probe_soon_if_one_is_handed_back_after_its_start(self, bank):
        """Failed as before a start."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [message] = run_pass()

            settlement.hand_back_started(started(message), note="not run", using="default")

            assert row().breaker_probe_at == NOW + timedelta(minutes=10, seconds=5)

    def test_gets_another_probe_soon_if_the_database_failed_during_one(self, bank):
        """Failed as before a start."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [message] = run_pass()
            bank.error = OperationalError("database is locked")

            run_message(message)

        probe = Delivery.objects.get(pk=message.pairs[0][0])
        assert (probe.state, probe.attempts) == ("pending", 0)
        assert row().breaker_opened_at is not None
        assert row().breaker_probe_at == probe.due_at

    def test_gets_no_other_probe_while_one_runs(self, bank):
        """The broker has refused its message, and has passed it on all the same."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [message] = run_pass()
            started(message)

            settlement.hand_back(message.pairs, note="refused", wait=0, using="default")

            assert run_pass() == []

    def test_gets_another_probe_if_the_worker_of_one_died(self, bank):
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(minutes=10))
            [message] = run_pass()
            for delivery_id, token in message.pairs:
                Delivery.objects.filter(id=delivery_id).update(
                    started_token=token, attempts=F("attempts") + 1, started_at=NOW, worker="w1"
                )
            clock.shift(timedelta(minutes=10))

            [another] = run_pass()
            bank.error = None
            run_messages([another])

        assert row().breaker_opened_at is None

    def test_gets_no_call_from_deliveries_that_were_in_flight(self, bank):
        """Seen to fail without `breaker.holds` where a delivery starts."""
        emit_orders(40)
        messages = run_pass()
        assert len(messages) == 40

        run_messages(messages)

        assert bank.asked == 5
        assert Delivery.objects.filter(state="pending", attempts=0).count() == 35

    def test_is_named_as_the_reason_why_a_delivery_waits(self, bank):
        """Seen to fail without `_breaker_open`: it asks whether a relay is running."""
        emit_orders(20).deliver_all(raise_errors=False)

        text = why(Delivery.objects.filter(attempts=0)[0])

        assert text.startswith("Not sent: tests.charge is held by its breaker, open since ")
        assert "(BankDown: no answer). The next probe is due at" in text

    def test_is_shown_by_status(self, bank):
        """Seen to fail with the row's state left out of `_add_condition`."""
        emit_orders(MANY).deliver_all(raise_errors=False)

        [handler] = json.loads(outbox_command("status", "--json"))["handlers"]
        said = outbox_command("status")

        assert handler["is_breaker_open"]
        assert handler["breaker_reason"] == "BankDown: no answer"
        assert "held by its breaker, open since" in said
        assert "(BankDown: no answer)" in said

    def test_is_not_shown_of_an_ended_subscription(self, bank):
        """Failed: `is_breaker_open`, for a breaker that no probe closes."""
        Subscription.objects.update(breaker_opened_at=timezone.now(), breaker_reason="BankDown")
        operations.end("tests.charge", by="ann", reason="its bank is gone")

        [handler] = json.loads(outbox_command("status", "--json"))["handlers"]

        assert not handler["is_breaker_open"]


class TestAPerson:
    """A user closes the breaker before the next probe."""

    def test_closes_the_breaker_and_the_handler_continues_gradually(self, bank):
        """Seen to fail with a command that closes nothing."""
        emit_orders(MANY).deliver_all(raise_errors=False)
        assert run_pass() == []
        bank.error = None

        said = outbox_command("close-breaker", "tests.charge", "--reason", "ticket 7")

        first = run_pass()
        assert said.startswith("The breaker of tests.charge is closed.")
        assert 1 <= len(first) <= 2
        run_messages(first)
        assert Delivery.objects.filter(state="done").count() == len(first)
        operation = Operation.objects.get()
        assert (operation.action, operation.reason) == ("close_breaker", "ticket 7")
        assert operation.touched == 1

    def test_must_give_a_reason_and_sees_the_waiting_deliveries(self, bank):
        emit_orders(MANY).deliver_all(raise_errors=False)

        text = outbox_command("close-breaker", "tests.charge", "--dry-run")

        assert "--reason" in refused("close-breaker", "tests.charge")
        assert f"{MANY} deliveries would change" in text
        assert row().breaker_opened_at is not None

    def test_gets_an_error_if_no_breaker_is_open(self, bank):
        said = refused("close-breaker", "tests.charge", "--reason", "ticket 7")

        assert said == "tests.charge has no open breaker."
        assert not Operation.objects.exists()

    def test_who_closes_it_too_early_sees_it_open_again(self, bank):
        emit_orders(MANY).deliver_all(raise_errors=False)
        operations.close_breaker("tests.charge", by="cli:ann", reason="a rumour")

        for _ in range(10):
            run_messages(run_pass())

        assert row().breaker_opened_at is not None
        assert bank.asked == 10

    def test_closes_it_in_the_admin_with_a_reason(self, bank, admin_client, admin_user):
        emit_orders(MANY).deliver_all(raise_errors=False)
        url = reverse("admin:outbox_subscription_changelist")
        form = {"action": "close_breaker", "_selected_action": [row().pk]}

        asked = admin_client.post(url, form).content.decode()
        still_open = row().breaker_opened_at
        admin_client.post(url, {**form, "reason": "ticket 7"})

        assert "This field is required" in asked or "Stored with the action." in asked
        assert still_open is not None
        assert row().breaker_opened_at is None
        assert Operation.objects.get().by == f"user:{admin_user.pk}"


class TestAnAnswerOfTheBank:
    def test_resets_the_count_of_consecutive_failures(self, bank):
        emit_orders(30)
        messages = run_pass()
        run_messages(messages[:4])
        bank.error = None
        run_messages(messages[4:5])
        bank.error = BankDown()
        run_messages(messages[5:9])

        assert row().breaker_opened_at is None
        assert row().breaker_failures == 4

    def test_may_be_a_refusal(self, bank):
        """A probe that fails with an error that the breaker does not count."""
        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(20).deliver_all(raise_errors=False)
            clock.shift(timedelta(hours=1))
            bank.error = PermanentFailure("wrong key")

            run_messages(run_pass())

        assert row().breaker_opened_at is None

    def test_with_an_uncounted_failure_opens_no_breaker(self, bank):
        bank.error = ValueError()

        with time_machine.travel(NOW, tick=False):
            emit_orders(20).deliver_all(raise_errors=False)

        assert bank.asked == 20
        assert row().breaker_failures == 0


class TestABreakerThatTheNextReleaseDoesNotHave:
    def test_is_closed_by_its_migrate(self, bank):
        from outbox import subscriptions

        emit_orders(20).deliver_all(raise_errors=False)
        assert row().breaker_opened_at is not None
        subscriptions.registry.clear()

        @subscribe("shops.Ordered", atomic=False)
        def charge(receipt: Receipt) -> None: ...

        sync_subscriptions()

        assert row().breaker_opened_at is None


@pytest.mark.django_db(transaction=True)
class TestManyWorkersAndRelays:
    def test_open_it_once_and_send_one_probe(self, bank):
        """Seen to fail on PostgreSQL without the row's lock in `note_failure`."""
        emit_orders(40)
        messages = run_pass()
        run_together([partial(run_messages, messages[n::4]) for n in range(4)])

        opened = row()
        assert opened.breaker_opened_at is not None
        assert opened.breaker_wait == 30
        assert sum(Delivery.objects.values_list("attempts", flat=True)) == 5
        Subscription.objects.update(breaker_probe_at=NOW - timedelta(days=9999))
        Delivery.objects.update(due_at=NOW - timedelta(days=9999))
        probes: list[Message] = []
        run_together([lambda: probes.extend(run_pass())] * 4)

        assert len(probes) == 1


class TestABulkHandler:
    def test_gets_a_probe_while_another_call_hangs(self):
        """Seen to get none until the lease had passed: one delivery is no whole message."""

        @subscribe(
            "shops.Ordered",
            bulk=True,
            batch=2,
            lease=60,
            breaker=Breaker(on=(BankDown,), failures=1, wait=30, longest=900),
        )
        def transfer(deliveries: Sequence[BulkDelivery]) -> None:
            raise BankDown("no answer")

        with time_machine.travel(NOW, tick=False) as clock:
            emit_orders(4)
            first, _hanging = run_pass()
            run_message(first)
            assert row().breaker_opened_at is not None
            clock.shift(timedelta(seconds=40))

            probes = run_pass()

        assert [len(message.pairs) for message in probes] == [1]


class TestAnOrderedHandler:
    @pytest.fixture
    def replayed(self, db: None) -> Bank:
        """The bank fails, and later deliveries of the same key are due, as after a replay."""
        bank = Bank()

        @subscribe(
            "shops.Ordered",
            ordered=True,
            lease=60,
            breaker=Breaker(on=(BankDown,), failures=1, wait=30, longest=900),
        )
        def charge() -> None:
            bank.ask()

        outbox, order_id = Outbox(), uuid4()
        for number in range(3):
            outbox.given("shops.Ordered", order_id=order_id, number=number)
        return bank

    def test_gets_another_probe_at_once_if_one_is_behind_another_delivery(
        self, replayed: Bank, django_capture_on_commit_callbacks: Any
    ):
        """Failed: the next one was sent when the lease of the first had passed."""
        with time_machine.travel(NOW, tick=False) as clock:
            run_messages(run_pass())
            blocked = Delivery.objects.filter(state="blocked")
            assert blocked.update(state="pending", due_at=NOW - timedelta(minutes=1)) == 2
            assert row().breaker_opened_at is not None
            clock.shift(timedelta(minutes=1))
            replayed.error = None
            for _ in range(2):
                with django_capture_on_commit_callbacks() as callbacks:
                    run_messages(run_pass(is_nudged=True))
                assert nudge in callbacks

            run_messages(run_pass(is_nudged=True))

        assert replayed.asked == 2, "The two that are behind the first one were blocked."
        assert row().breaker_opened_at is None
        assert states() == ["done", "pending", "blocked"]


class TestTheDecision:
    @for_all(kinds=st.lists(st.booleans(), max_size=60))
    def test_waits_longer_after_each_probe_up_to_a_limit(self, kinds):
        breaker, now = Breaker(on=(BankDown,), failures=3, wait=30, longest=900), NOW
        circuit = Circuit()
        for is_probe in kinds:
            after = after_call_failed(circuit, breaker, now=now, is_probe=is_probe)
            assert after.wait <= 900
            assert after.wait >= circuit.wait
            assert not circuit.is_open or after.is_open, "a failure closes nothing"
            assert after.is_open == (after.failures >= 3)
            if after.is_open:
                assert after.probe_at is not None
            circuit, now = after, now + timedelta(seconds=7)
