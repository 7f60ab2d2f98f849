"""An outage during the start of a message: its answer is lost, or the start is late."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError

from outbox import clock, operations, subscribe
from outbox.deliveries import failpoints
from outbox.deliveries.statements import read_each
from outbox.models import Delivery, Event, Subscription
from outbox.transports.base import Message
from outbox.worker import start as start_module
from tests.outbox.drive import (
    expire_leases_and_backoffs,
    outcomes,
    run_message,
    run_pass,
    states_and_attempts,
)
from tests.outbox.outages import LostAnswer, Outage, expire_leases, new_message
from tests.threads import aside

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


class TestAStartWhoseAnswerIsLostForLongerThanItsLease:
    """Rule 9. A relay with a connection counts the worker as dead meanwhile."""

    def test_uses_up_no_attempt(self, outage: Outage, monkeypatch: pytest.MonkeyPatch):
        outage.meanwhile = expire_leases
        runs = []

        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            runs.append(1)

        message = new_message()
        lost: list[bool] = []

        def read_and_cut(*statements: Any, using: str) -> Any:
            found = read_each(*statements, using=using)
            if not lost:
                lost.append(True)
                outage()
                raise OperationalError("server closed the connection unexpectedly")
            return found

        monkeypatch.setattr(start_module, "read_each", read_and_cut)

        run_message(message)

        assert (runs, states_and_attempts(), outcomes()) == ([], [("pending", 0)], ["outage"])

    def test_uses_up_no_attempt_of_an_ordered_handler(
        self, outage: Outage, lost_answer: LostAnswer
    ):
        outage.meanwhile = expire_leases
        runs = []

        @subscribe("tests.Counted", attempts=1, ordered=True)
        def count() -> None:
            runs.append(1)

        message = new_message()
        lost_answer.then = outage

        run_message(message)

        assert (runs, states_and_attempts(), outcomes()) == ([], [("pending", 0)], ["outage"])

    @pytest.mark.parametrize("ordered", [True, False])
    def test_gives_the_attempt_back_once_if_it_was_sent_again_to_a_paused_handler(
        self,
        ordered: bool,
        outage: Outage,
        lost_answer: LostAnswer,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Failed: it became -1. The withdrawal of the death had given the attempt back already."""
        message = given_to_a_held_handler(ordered=ordered)
        again: list[Message] = []

        def send_again_and_pause() -> None:
            expire_leases()
            expire_leases_and_backoffs()
            again.extend(run_pass())
            pause()

        outage.meanwhile = send_again_and_pause
        lose_the_start(message, lost_answer, monkeypatch, then=outage)

        run_message(message)

        assert (states_and_attempts(), outcomes()) == ([("sent", 0)], ["outage"])
        run_message(again[0], worker="w2")
        assert states_and_attempts() == [("parked", 0)]


class TestAStartThatWaitsForTheDatabase:
    def test_has_its_whole_lease_when_it_is_stored(self, outage: Outage):
        """Failed while the lease counted from before the wait: it had passed at the start."""

        @subscribe("tests.Counted", attempts=1, lease=3.0, time_limit=1.0)
        def count() -> None: ...

        message = new_message()
        outage.meanwhile = lambda: time.sleep(3.3)
        outage()
        left: list[bool] = []

        def look() -> None:
            left.append(Delivery.objects.get().due_at > clock.now())
            run_pass()

        with failpoints.armed(failpoints.AFTER_START, lambda: aside(look)):
            run_message(message)

        assert left == [True]
        assert states_and_attempts() == [("done", 1)]


@pytest.mark.parametrize("ordered", [True, False])
class TestAStartWhoseAnswerIsLostAndWhoseHandlerIsHeldMeanwhile:
    """Failed: the attempt of the stored start was used up, though the handler never ran."""

    def test_gives_the_attempt_back_if_the_handler_is_paused(
        self, ordered: bool, lost_answer: LostAnswer, monkeypatch: pytest.MonkeyPatch
    ):
        message = given_to_a_held_handler(ordered=ordered)
        lose_the_start(message, lost_answer, monkeypatch, then=lambda: aside(pause))

        run_message(message)

        assert (states_and_attempts(), outcomes()) == ([("parked", 0)], [])

    def test_gives_the_attempt_back_if_the_breaker_opens(
        self, ordered: bool, lost_answer: LostAnswer, monkeypatch: pytest.MonkeyPatch
    ):
        message = given_to_a_held_handler(ordered=ordered)
        lose_the_start(message, lost_answer, monkeypatch, then=lambda: aside(open_breaker))

        run_message(message)

        assert (states_and_attempts(), outcomes()) == ([("pending", 0)], [])

    def test_keeps_the_attempt_of_an_earlier_start(
        self, ordered: bool, lost_answer: LostAnswer, monkeypatch: pytest.MonkeyPatch
    ):
        message = given_to_a_held_handler(ordered=ordered)
        Delivery.objects.update(attempts=2)
        lose_the_start(message, lost_answer, monkeypatch, then=lambda: aside(pause))

        run_message(message)

        assert states_and_attempts() == [("parked", 2)]


class TestAStartWhoseAnswerIsLostOfAnOrderedKey:
    def test_gives_the_attempt_back_if_it_is_out_of_turn_meanwhile(self, lost_answer: LostAnswer):
        message = given_to_a_held_handler(ordered=True)
        lost_answer.then = lambda: aside(store_an_earlier_event)

        run_message(message)

        assert (states_and_attempts(), outcomes()) == ([("blocked", 0)], [])


class TestAStartWhoseAnswerIsLostOfAnEventOfALaterRelease:
    def test_is_released_although_the_handler_was_paused_briefly(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: the delivery stayed sent, and its worker was declared dead."""
        message = given_to_a_held_handler(ordered=False)
        Event.objects.update(version=2)
        tries: list[object] = []

        def read_between(*statements: Any, using: str) -> Any:
            found = read_each(*statements, using=using)
            tries.append(found)
            if len(tries) == 1:
                aside(pause)
                raise OperationalError("server closed the connection unexpectedly")
            aside(lambda: operations.resume("tests.count", by="ann"))
            return found

        monkeypatch.setattr(start_module, "read_each", read_between)

        run_message(message)

        assert len(tries) == 2
        assert (states_and_attempts(), outcomes()) == ([("pending", 0)], [])


class TestAHeldStartWhoseAnswerIsKnown:
    def test_keeps_its_attempt(self):
        message = given_to_a_held_handler(ordered=True)
        Delivery.objects.update(attempts=2)
        pause()

        run_message(message)

        assert states_and_attempts() == [("parked", 2)]


def given_to_a_held_handler(*, ordered: bool) -> Message:
    @subscribe("tests.Counted", name="tests.count", attempts=5, ordered=ordered)
    def count() -> None:
        raise AssertionError("a held handler was run")

    return new_message()


def lose_the_start(
    message: Message,
    lost_answer: LostAnswer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    then: Callable[[], object],
) -> None:
    """Lose the answer to the next start, and call `then` before the second try."""
    if Subscription.objects.get(handler=message.handler).ordered:
        lost_answer.then = then
        return
    lost: list[bool] = []

    def read_and_lose(*statements: Any, using: str) -> Any:
        found = read_each(*statements, using=using)
        if not lost:
            lost.append(True)
            then()
            raise OperationalError("server closed the connection unexpectedly")
        return found

    monkeypatch.setattr(start_module, "read_each", read_and_lose)


def pause() -> None:
    operations.pause("tests.count", by="ann", reason="a test")


def open_breaker() -> None:
    Subscription.objects.update(breaker_opened_at=clock.now())


def store_an_earlier_event() -> None:
    """Store an event of the same key that is not fanned out, with a smaller `seq`."""
    event = Event.objects.get()
    event.seq, event.id, event.fanned_out_at = event.seq - 1, uuid4(), None
    event.save(force_insert=True)
