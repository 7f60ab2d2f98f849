"""The backfill of an ordered handler keeps the order, and keeps the handler paused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from outbox import operations, subscribe
from outbox.deliveries import failpoints, settlement
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.operations import backfills, progress
from outbox.operations.backfills import Backfill
from outbox.policy import Pause
from outbox.relay import passes
from outbox.relay.fan_out import fan_out
from outbox.subscriptions import find
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import Died, die, run_messages, run_pass
from tests.outbox.ordered import B, Listener, emit_numbers
from tests.processes import eventually
from tests.threads import count_blocked, in_thread

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")

CHOICE = operations.Choice(handler="tests.note")
NAMES = ("one", "other")


@pytest.fixture
def listener(db: None) -> Listener:
    return Listener()


def given_before_it_subscribed(listener: Listener, *numbers: int, **policy: Any) -> None:
    emit_numbers(*numbers)
    run_pass()
    listener.subscribe(**policy)
    assert not Delivery.objects.exists()


def backfill(**options: Any) -> Operation:
    return operations.backfill(CHOICE, by="ann", reason="a test", **options)


def handled(listener: Listener) -> list[int]:
    return [number for _key, number in listener.received]


def _do_nothing() -> None: ...


def after_the_first_step(action: Callable[[], object]) -> Callable[[Operation, str], None]:
    """Return a report that does something once, between two steps."""
    done: list[object] = []

    def report(_operation: Operation, waits_for: str) -> None:
        if not done and not waits_for:
            done.append(True)
            action()

    return report


def the_handler() -> Subscription:
    return Subscription.objects.get()


def the_backfill() -> Operation:
    return Operation.objects.get(action="backfill")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SLICE", 1)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestALaterEventThatIsInHand:
    """A worker runs event 2 when the backfill of event 1 begins."""

    @pytest.fixture
    def may_end(self, listener: Listener) -> threading.Event:
        may_end = threading.Event()
        receive = listener.receive

        def receive_slowly(order_id: Any, number: int) -> None:
            if number == 2:
                self.entered.set()
                assert may_end.wait(60)
            receive(order_id, number)

        listener.receive = receive_slowly  # type: ignore[method-assign]
        return may_end

    def in_hand(self, listener: Listener) -> Callable[[], object]:
        self.entered = threading.Event()
        given_before_it_subscribed(listener, 1)
        emit_numbers(2)
        messages = run_pass()
        worker = in_thread(lambda: run_messages(messages))
        assert self.entered.wait(60)
        return worker

    def test_is_waited_for_and_the_backfill_is_refused_if_it_is_handled(
        self, listener: Listener, may_end: threading.Event
    ):
        """Failed: 2 was handled, and then 1."""
        worker = self.in_hand(listener)
        waited_for: list[str] = []

        def report(_operation: Operation, waits_for: str) -> None:
            waited_for.append(waits_for)
            may_end.set()

        with pytest.raises(operations.CannotBackfill, match="has handled an event of key"):
            backfill(report=report)
        worker()
        Outbox().deliver_all()

        assert waited_for[0] == "a worker runs deliveries of tests.note"
        assert handled(listener) == [2]
        assert (the_backfill().state, the_handler().paused_at) == ("given_up", None)

    def test_is_waited_for_and_handled_after_the_old_one_if_it_fails(
        self, listener: Listener, may_end: threading.Event
    ):
        worker = self.in_hand(listener)
        listener.failing[2] = ValueError("no")

        backfill(report=lambda *_progress: may_end.set())
        worker()
        listener.failing.clear()
        Outbox().deliver_all()

        assert handled(listener) == [1, 2]

    def test_is_not_waited_for_any_more_when_the_backfill_is_given_up(
        self, listener: Listener, may_end: threading.Event
    ):
        worker = self.in_hand(listener)

        def give_up(operation: Operation, waits_for: str) -> None:
            if waits_for:
                operations.give_up(operation.pk, by="bob")

        done = backfill(report=give_up)
        may_end.set()
        worker()

        assert (done.state, done.touched) == ("given_up", 0)
        assert the_handler().paused_at is None


class TestALaterEvent:
    def test_that_is_handled_between_the_first_look_and_the_pause_is_found(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: 2 was handled, and then 1."""
        given_before_it_subscribed(listener, 1)
        begin = backfills.Backfill.begin

        def begin_late(self: Any, **options: Any) -> Operation:
            emit_numbers(2)
            Outbox().deliver_all()
            return begin(self, **options)

        monkeypatch.setattr(backfills.Backfill, "begin", begin_late)

        with pytest.raises(operations.CannotBackfill, match="has handled an event of key"):
            backfill()

        assert (the_backfill().state, the_handler().paused_at) == ("given_up", None)
        assert handled(listener) == [2]

    def test_that_is_sent_and_not_started_is_taken_back(self, listener: Listener):
        given_before_it_subscribed(listener, 1)
        emit_numbers(2)
        messages = run_pass()

        backfill()
        run_messages(messages)
        Outbox().deliver_all()

        assert handled(listener) == [1, 2]

    def test_does_not_matter_to_a_backfill_out_of_order_that_was_killed(self, listener: Listener):
        given_before_it_subscribed(listener, 1)
        emit_numbers(2)
        Outbox().deliver_all()
        with pytest.raises(Died), failpoints.armed(failpoints.IN_STEP, die):
            backfill(in_order=False)

        operations.continue_operation(the_backfill().pk, by="ann")
        Outbox().deliver_all()

        assert handled(listener) == [2, 1]


class TestABackfillThatIsKilled:
    @pytest.mark.usefixtures("small_steps")
    @pytest.mark.parametrize("point", [failpoints.IN_STEP, failpoints.AFTER_STEP])
    def test_at_its_last_step_leaves_the_handler_paused_only_while_it_is_unfinished(
        self, listener: Listener, point: str
    ):
        """Failed after the step: the handler stayed paused, and `continue` saw no operation."""
        given_before_it_subscribed(listener, 1, 2)
        steps: list[int] = []

        def die_at_the_third() -> None:
            steps.append(1)
            if len(steps) == 3:
                raise Died

        with pytest.raises(Died), failpoints.armed(point, die_at_the_third):
            backfill()
        is_over = the_backfill().state == "finished"
        is_paused = the_handler().paused_at is not None
        if not is_over:
            operations.continue_operation(the_backfill().pk, by="ann")
        Outbox().deliver_all()

        assert is_paused is not is_over
        assert the_handler().paused_at is None
        assert handled(listener) == [1, 2]

    def test_is_begun_again_by_the_same_line(self, listener: Listener):
        given_before_it_subscribed(listener, 1, 2)
        with pytest.raises(Died), failpoints.armed(failpoints.IN_STEP, die):
            backfill()

        backfill()
        Outbox().deliver_all()

        states = Operation.objects.filter(action="backfill").order_by("id")
        assert [one.state for one in states] == ["given_up", "finished"]
        assert handled(listener) == [1, 2]

    def test_by_an_older_release_after_its_last_step_is_made_good_by_the_next(
        self, listener: Listener
    ):
        given_before_it_subscribed(listener, 1)
        done = backfill()
        Subscription.objects.update(paused_at=timezone.now(), paused_by=f"backfill:{done.pk}")

        backfill()
        Outbox().deliver_all()

        assert handled(listener) == [1]

    def test_keeps_another_one_of_its_handler_from_beginning(self, listener: Listener):
        given_before_it_subscribed(listener, 1, 2)
        with pytest.raises(Died), failpoints.armed(failpoints.IN_STEP, die):
            backfill()
        other = operations.Choice(handler="tests.note", event="tests.Walked")

        with pytest.raises(operations.CannotBackfill, match=r"not finished: operation \d+, by ann"):
            operations.backfill(other, by="bob", reason="a test")

        assert the_backfill().by == "ann"
        assert the_handler().paused_by == f"backfill:{the_backfill().pk}"


class TestAStep:
    def test_is_repeated_after_an_error_that_is_the_fault_of_the_database(self, listener: Listener):
        """Failed: the command ended, and the handler stayed paused."""
        given_before_it_subscribed(listener, 1, 2)
        errors = [OperationalError("database is locked")]

        def fail_once() -> None:
            if errors:
                raise errors.pop()

        with failpoints.armed(failpoints.IN_STEP, fail_once):
            done = backfill()
        Outbox().deliver_all()

        assert (done.state, done.touched, handled(listener)) == ("finished", 2, [1, 2])


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestTwoBackfillsOfTheSameEvents:
    def test_do_not_wait_for_each_other(self, monkeypatch: pytest.MonkeyPatch):
        """Failed with a deadlock: each locked the events of its first subscription first."""
        emit_numbers(1)
        emit_numbers(2, name="tests.Turned")
        run_pass()
        subscribe("tests.Walked", "tests.Turned", name="tests.one")(_do_nothing)
        subscribe("tests.Turned", "tests.Walked", name="tests.other")(_do_nothing)
        sync_subscriptions()
        tasks = [Backfill(operations.Choice(handler=f"tests.{one}"), "default") for one in NAMES]
        begun = [task.begin(by="ann", reason="a test", rate=None) for task in tasks]
        reached: list[str] = []
        of = backfills.missing

        def missing_slowly(choice: operations.Choice, *, using: str | None = None) -> Any:
            first, second = of(choice, using=using)
            yield first
            reached.append(choice.handler)
            eventually(lambda: len(reached) == 2 or count_blocked(), "both are there, or one waits")
            yield second

        def touch(task: Backfill, operation: Operation) -> int:
            with transaction.atomic():
                seqs = list(Event.objects.order_by("seq").values_list("seq", flat=True))
                return task.touch(seqs, operation).number

        monkeypatch.setattr(backfills, "missing", missing_slowly)
        ends = [in_thread(partial(touch, *one)) for one in zip(tasks, begun, strict=True)]

        assert [end() for end in ends] == [2, 2]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
class TestAPassThatBeganBeforeTheHandlerWasNew:
    def test_is_waited_for(self, listener: Listener, monkeypatch: pytest.MonkeyPatch):
        """Failed: nobody delivered the events of that pass."""
        emit_numbers(1)
        has_read, may_store, is_over = threading.Event(), threading.Event(), threading.Event()

        def fan_out_late(*args: Any, **options: Any) -> None:
            has_read.set()
            assert may_store.wait(60)
            fan_out(*args, **options)

        def backfill_it() -> None:
            try:
                backfill()
            finally:
                is_over.set()

        monkeypatch.setattr(passes, "fan_out", fan_out_late)
        relay = in_thread(run_pass)
        assert has_read.wait(60)
        listener.subscribe()
        begun = in_thread(backfill_it)
        eventually(lambda: is_over.is_set() or count_blocked(), "it waits, or is over")
        may_store.set()

        assert (relay(), begun()) == ([], None)
        assert Delivery.objects.count() == 1


@pytest.mark.usefixtures("small_steps")
class TestAPause:
    def test_by_a_person_outlasts_the_backfill(self, listener: Listener):
        """Failed: nothing was paused, and the end of the backfill let the handler run."""
        given_before_it_subscribed(listener, 1, 2)
        paused: list[int] = []

        def pause() -> None:
            paused.append(operations.pause("tests.note", by="bob", reason="the bank is closed"))

        done = backfill(report=after_the_first_step(pause))
        Outbox().deliver_all()

        assert (paused, done.state, done.touched) == ([1], "finished", 2)
        assert (the_handler().paused_by, handled(listener)) == ("bob", [])
        operations.resume("tests.note", by="bob")
        Outbox().deliver_all()
        assert handled(listener) == [1, 2]

    def test_by_a_rule_outlasts_the_backfill(self, listener: Listener):
        """A delivery that was running before fails. Failed as by a person."""
        given_before_it_subscribed(listener, 1, 2, rules={ValueError: Pause("ask the bank")})
        emit_numbers(3, key=B)
        run_pass()

        def fail() -> None:
            row = Delivery.objects.get(event__key=str(B))
            row.state, row.attempts, row.started_token, row.worker = "sent", 1, row.token, "w1"
            row.started_at = timezone.now()
            row.save()
            error, handler = ValueError("the account is locked"), find("tests.note")
            assert handler is not None
            settlement.fail(row, error, handler=handler, using="default")

        backfill(report=after_the_first_step(fail))

        assert the_handler().paused_by == "rule:ValueError"

    def test_that_comes_after_a_resumption_does_not_hide_it(self, listener: Listener):
        given_before_it_subscribed(listener, 1, 2)

        def resume_and_pause() -> None:
            operations.resume("tests.note", by="bob", force=True)
            operations.pause("tests.note", by="bob", reason="on second thoughts")

        with pytest.raises(operations.CannotBackfill, match="was resumed before"):
            backfill(report=after_the_first_step(resume_and_pause))

    def test_of_a_handler_that_has_ended_meanwhile_leaves_it_ended(self, listener: Listener):
        """Failed: the end of the backfill made the subscription active."""
        given_before_it_subscribed(listener, 1, 2)

        def end() -> None:
            operations.end("tests.note", by="bob", reason="not needed")

        backfill(report=after_the_first_step(end))

        assert not the_handler().active


class TestADryRun:
    """Failed: it counted the deliveries, and exited with 0."""

    def test_of_a_paused_handler_is_refused_as_the_backfill(self, listener: Listener):
        given_before_it_subscribed(listener, 1)
        operations.pause("tests.note", by="bob", reason="a test")

        said = refused("backfill", "tests.note", "--dry-run")

        assert said == refused("backfill", "tests.note", "--reason", "x")
        assert said.startswith("tests.note cannot be backfilled, because ")

    def test_that_would_break_the_order_of_a_key_is_refused(self, listener: Listener):
        given_before_it_subscribed(listener, 1)
        emit_numbers(2)
        run_messages(run_pass())

        said = refused("backfill", "tests.note", "--dry-run")

        assert said == refused("backfill", "tests.note", "--reason", "x")
        assert "has handled an event of key" in said
        shown = outbox_command("backfill", "tests.note", "--out-of-order", "--dry-run")
        assert "1 delivery would change." in shown

    def test_beside_an_unfinished_backfill_of_other_events_is_refused(self, listener: Listener):
        given_before_it_subscribed(listener, 1)
        with pytest.raises(Died), failpoints.armed(failpoints.IN_STEP, die):
            backfill()

        other = ["backfill", "tests.note", "--event", "tests.Walked"]
        said = refused(*other, "--dry-run")

        assert said == refused(*other, "--reason", "x")
        assert "Another backfill of tests.note is not finished" in said
        assert "1 delivery would change." in outbox_command("backfill", "tests.note", "--dry-run")
