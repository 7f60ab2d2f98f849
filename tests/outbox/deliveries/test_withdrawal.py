"""A worker withdraws crashes that were counted during an outage of its connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, transaction

from outbox import operations, subscribe
from outbox.deliveries import heartbeat, settlement, withdrawal
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Attempt, Delivery, Event
from outbox.subscriptions import Handler, find
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.start import start
from tests.outbox.drive import outcomes, run_message, run_pass, states_and_attempts
from tests.outbox.outages import Outage, expire_leases, new_message
from tests.processes import eventually
from tests.threads import count_blocked, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "short_waits"),
]


def handler() -> Handler:
    found = find("tests.count")
    assert found is not None
    return found


def started_by(worker: str, message: Message) -> Delivery:
    [row] = start(handler(), message.pairs, worker=worker, access=DatabaseAccess("default"))
    return row


def withdraw(row: Delivery, *, is_outage: bool = True) -> int:
    assert row.started_at is not None
    return withdrawal.withdraw_deaths(
        [row.pk],
        worker=row.worker,
        started_at=row.started_at,
        is_outage=is_outage,
        using="default",
    )


def sent_again() -> Message:
    [message] = run_pass()
    return message


def retry() -> None:
    operations.retry(operations.Choice(), by="ann", rate=None)


class TestACrashThatAPersonHasRetried:
    """W1 loses its connection and counts as dead. A user retries, W3 starts, then W1 returns."""

    def test_gives_back_no_attempt_of_the_present_run(self):
        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        lost = started_by("w1", new_message())
        expire_leases()
        retry()
        in_hand = started_by("w3", sent_again())

        assert withdraw(lost) == 1

        assert states_and_attempts() == [("sent", 1)]
        error = OperationalError("server closed the connection unexpectedly")
        settlement.fail(in_hand, error, handler=handler(), using="default", is_outage=True)
        assert states_and_attempts() == [("pending", 0)]

    def test_gives_back_no_attempt_of_a_run_that_is_done(self):
        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        lost = started_by("w1", new_message())
        expire_leases()
        retry()
        run_message(sent_again())

        assert withdraw(lost) == 1

        assert states_and_attempts() == [("done", 1)]

    def test_gives_back_no_attempt_of_a_run_that_failed(self):
        @subscribe("tests.Counted", attempts=1)
        def count() -> None:
            raise ValueError

        lost = started_by("w1", new_message())
        expire_leases()
        retry()
        run_message(sent_again())

        assert withdraw(lost) == 1

        assert states_and_attempts() == [("dead", 1)]


class TestACrashThatNobodyHasRetried:
    def test_is_withdrawn_during_a_later_run(self):
        @subscribe("tests.Counted", attempts=3, backoff_base=0)
        def count() -> None: ...

        lost = started_by("w1", new_message())
        expire_leases()
        started_by("w3", sent_again())
        assert states_and_attempts() == [("sent", 2)]

        assert withdraw(lost) == 1

        assert states_and_attempts() == [("sent", 1)]

    def test_is_withdrawn_with_a_later_one(self):
        """Two workers of one delivery lose their connections, and return in any order."""

        @subscribe("tests.Counted", attempts=3, backoff_base=0)
        def count() -> None: ...

        first = started_by("w1", new_message())
        expire_leases()
        second = started_by("w3", sent_again())
        expire_leases()
        assert states_and_attempts() == [("pending", 2)]

        assert (withdraw(first), withdraw(second)) == (1, 1)

        assert states_and_attempts() == [("pending", 0)]
        assert set(outcomes()) == {"outage"}


class TestACrashByALostConnectionWithoutAnOutage:
    def test_is_withdrawn_only_a_few_times(self):
        """Rule 11. An event that breaks its connection at each attempt ends as dead."""

        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        message = new_message()
        for _ in range(6):
            lost = started_by("w1", message)
            expire_leases()
            withdraw(lost, is_outage=False)
            messages = run_pass()
            message = messages[0] if messages else message

        assert states_and_attempts() == [("dead", 1)]
        assert outcomes() == ["database"] * 5 + ["died"]


class TestARelayThatCountsACrashAtTheSameTime:
    def test_uses_up_no_attempt(self, outage: Outage, monkeypatch: pytest.MonkeyPatch):
        """Failed where the relay asked for outages before it locked what it judges."""
        asked, go_on, withdrawn = threading.Event(), threading.Event(), threading.Event()
        recent: Any = heartbeat.recent_outage
        withdraw: Any = withdrawal.withdraw_deaths
        others: list[Any] = []

        def recent_and_wait(*arguments: Any, **options: Any) -> Any:
            found = recent(*arguments, **options)
            asked.set()
            assert go_on.wait(60)
            return found

        def withdraw_and_wait(*arguments: Any, **options: Any) -> int:
            others.append(in_thread(let_relay_go_on))
            number: int = withdraw(*arguments, **options)
            withdrawn.set()
            for other in others:
                other()
            return number

        def let_relay_go_on() -> None:
            """When the worker has withdrawn its deaths, or waits for the relay's locks."""
            eventually(lambda: withdrawn.is_set() or count_blocked() > 0, "the worker")
            go_on.set()

        def meanwhile() -> None:
            others.append(in_thread(expire_leases))
            assert asked.wait(60)

        monkeypatch.setattr(heartbeat, "recent_outage", recent_and_wait)
        monkeypatch.setattr(withdrawal, "withdraw_deaths", withdraw_and_wait)
        outage.meanwhile = meanwhile

        @subscribe("tests.Counted", attempts=1, shared_transaction=False)
        def count() -> None:
            outage()
            Group.objects.exists()

        run_message(new_message(2))

        assert (states_and_attempts(), outcomes()) == ([("pending", 0)] * 2, ["outage"] * 2)


class TestAnOrderedHandlerThatLetsTheDeadPass:
    """Event 1 runs during an outage and counts as dead, so event 2 passes it."""

    def test_handles_no_earlier_event_after_a_later_one(self, outage: Outage):
        """Failed, [2, 1], while the first became due again."""

        def meanwhile() -> None:
            expire_leases()
            Outbox().deliver_all(raise_errors=False)

        handled = self.deliver_two(outage, meanwhile)

        assert handled == [2]
        assert states_and_attempts() == [("dead", 0), ("done", 1)]
        assert "staff must decide" in Delivery.objects.earliest("id").note

    def test_handles_it_if_no_later_one_was_started(self, outage: Outage):
        handled = self.deliver_two(outage, expire_leases)

        assert handled == [1, 2]
        assert states_and_attempts() == [("done", 1), ("done", 1)]

    def deliver_two(self, outage: Outage, meanwhile: Callable[[], object]) -> list[int]:
        handled: list[int] = []
        cut: list[bool] = []

        @subscribe("tests.Counted", attempts=1, ordered=True, on_dead="pass", name="tests.count")
        def count(event_id: UUID) -> None:
            seqs = list(Event.objects.order_by("seq").values_list("id", flat=True))
            number = seqs.index(event_id) + 1
            if number == 1 and not cut:
                cut.append(True)
                outage()
                Group.objects.exists()
            handled.append(number)

        outage.meanwhile = meanwhile
        outbox, key = Outbox(), uuid4()
        for _ in range(2):
            outbox.given("tests.Counted", order_id=key)
        [message] = run_pass()
        run_message(message)
        outbox.deliver_all()
        return handled


class TestARunThatLostItsDelivery:
    def test_is_recorded_although_the_event_is_pruned_at_the_same_time(self):
        """Failed by the foreign key while nothing was locked: the error left `deliver()`."""

        @subscribe("tests.Counted", attempts=1)
        def count() -> None: ...

        row = started_by("w1", new_message())
        expire_leases()
        with transaction.atomic():
            Delivery.objects.all().delete()
            failing = in_thread(
                lambda: settlement.fail(row, ValueError(), handler=handler(), using="default")
            )
            wait_until_blocked(1)
        ended: Any = failing()

        assert ended[0] == "discarded"
        assert not Attempt.objects.exists()
