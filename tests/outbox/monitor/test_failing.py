"""Groups of failing deliveries: from the first failed attempt until success, discard or death."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone

from outbox import Breaker, Dead, operations, subscribe
from outbox.deliveries.withdrawal import withdraw_deaths
from outbox.models import Attempt, Delivery, Event, Heartbeat, Minute, Subscription
from outbox.monitor.conditions import Condition
from outbox.monitor.failing import (
    FailingView,
    count_failing,
    dead_groups,
    failing_groups,
    failing_view,
    failure_groups,
)
from outbox.monitor.failures import FailureGroup
from outbox.monitor.light import light
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import (
    emit_orders,
    expire_leases_and_backoffs,
    run_messages,
    run_pass,
)

pytestmark = pytest.mark.usefixtures("own_registry")

Handler = Callable[..., None]


class Switch:
    """Decides what the handler raises: an exception, or none."""

    error: Exception | None = ZeroDivisionError("division by zero")


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def award(own_registry: None, switch: Switch) -> Handler:
    """A handler that fails as the switch says."""

    @subscribe("shops.Ordered", attempts=3, backoff_base=60)
    def award_points(number: int) -> None:
        if switch.error is not None:
            raise switch.error.with_traceback(None)  # else it grows with each call

    return award_points


def fail_once(number: int = 1) -> None:
    emit_orders(number)
    run_messages(run_pass())


def only() -> FailureGroup:
    (found,) = failing_groups()
    return found


@pytest.mark.usefixtures("award")
class TestAGroup:
    def test_exists_from_the_first_failed_attempt(self):
        fail_once()

        found = only()
        assert (found.kind, found.handler) == ("failing", "tests.award_points")
        assert (found.exception, found.message) == ("ZeroDivisionError", "division by zero")
        assert found.place.endswith(" award_points")
        assert (found.number, found.keys, found.is_least) == (1, 1, False)

    def test_is_described_in_one_sentence(self):
        fail_once(2)
        with time_machine.travel(timezone.now(), tick=False):
            Delivery.objects.update(due_at=timezone.now() + timedelta(seconds=40.4))

            found = only()

        assert found.text == (
            "failing: ZeroDivisionError in tests.award_points, 2 deliveries, "
            f"since {found.since:%H:%M} UTC, next attempt in 40 s"
        )

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.6, "next attempt in 1 s"), (0.4, "next attempt now")]
    )
    def test_has_no_duration_of_zero(self, seconds: float, text: str):
        fail_once()
        found = only()

        late = replace(found, next_attempt=found.now + timedelta(seconds=seconds))

        assert late.next_text == text

    def test_counts_deliveries_and_their_keys(self):
        outbox = Outbox()
        order = uuid4()
        for number in range(3):
            key = order if number else uuid4()
            outbox.given("shops.Ordered", order_id=key, number=number)
        run_messages(run_pass())

        assert only().number_text == "3 deliveries of 2 keys"

    def test_is_gone_after_the_attempt_that_succeeds(self, switch: Switch):
        fail_once()
        switch.error = None
        expire_leases_and_backoffs()
        run_messages(run_pass())

        assert failing_groups() == []

    def test_stays_while_the_next_attempt_waits_and_runs(self):
        fail_once()
        expire_leases_and_backoffs()
        assert only().next_text == "next attempt now"

        run_pass()

        assert Delivery.objects.get().state == "sent"
        assert only().next_text == "next attempt now"

    def test_has_the_time_of_the_first_failure_after_several(self):
        fail_once()
        first = only().since
        expire_leases_and_backoffs()
        run_messages(run_pass())

        found = only()
        assert found.since == first
        assert found.latest > first

    def test_separates_exceptions(self, switch: Switch):
        fail_once()
        switch.error = KeyError("points")
        emit_orders(2)
        run_messages(run_pass())

        assert [(one.exception, one.number) for one in failing_groups()] == [
            ("KeyError", 2),
            ("ZeroDivisionError", 1),
        ]

    def test_names_the_minute_of_the_last_success(self):
        minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=7)
        Minute.objects.create(handler="tests.award_points", minute=minute, done=3)
        fail_once()

        assert only().last_success == minute

    def test_is_limited_to_the_named_handlers(self):
        fail_once()

        assert failing_groups(handlers=["tests.other"]) == []
        assert len(failing_groups(handlers=["tests.award_points"])) == 1

    def test_becomes_dead_after_the_last_attempt(self):
        fail_once()
        for _attempt in range(2):
            expire_leases_and_backoffs()
            run_messages(run_pass())

        assert failing_groups() == []
        (found,) = dead_groups()
        assert (found.kind, found.exception, found.next_attempt) == (
            "dead",
            "ZeroDivisionError",
            None,
        )
        assert found.text.startswith("dead: ZeroDivisionError in tests.award_points, 1 delivery,")
        assert [one.kind for one in failure_groups()] == ["dead"]

    def test_names_the_commands_for_it(self):
        fail_once()

        found = only()
        assert found.retry == (
            "manage.py outbox retry --state pending --handler tests.award_points "
            f"--exception ZeroDivisionError --place '{found.place}'"
        )
        assert found.pause == "manage.py outbox pause tests.award_points --reason TEXT"


@pytest.mark.usefixtures("award")
class TestTheLight:
    @pytest.fixture(autouse=True)
    def _alive(self, award: Handler) -> None:
        now = timezone.now()
        values = {"queues": ["outbox", "tests"], "started_at": now, "seen_at": now}
        for kind in ("relay", "beat", "broker", "worker"):
            name = "beat" if kind == "beat" else kind
            Heartbeat.objects.create(kind=kind, name=name, **values)
        Subscription.objects.update(queue="outbox")

    def test_is_red_while_the_next_attempt_waits(self):
        fail_once()

        assert light().text == "failing"

    def test_is_red_while_the_next_attempt_runs(self):
        """Seen to fail: a sink that fails has its deliveries with a worker most of the time."""
        fail_once()
        expire_leases_and_backoffs()
        run_pass()

        assert Delivery.objects.get().state == "sent"
        assert light().text == "failing"

    def test_is_red_after_a_failure_of_the_database(self, switch: Switch):
        switch.error = OperationalError("canceling statement due to statement timeout")
        fail_once()

        assert light().text == "failing"


@pytest.mark.usefixtures("award")
class TestAFailureOfTheDatabase:
    def test_is_a_group_although_it_uses_up_no_attempt(self, switch: Switch):
        """Seen to fail with an index of deliveries with an attempt."""
        switch.error = OperationalError("canceling statement due to statement timeout")
        switch.error.__cause__ = None
        fail_once()

        assert only().exception == "OperationalError"


@pytest.mark.usefixtures("award")
class TestAReplay:
    def test_is_no_failure(self, switch: Switch):
        switch.error = None
        fail_once()
        operations.replay(operations.Choice(), by="cli:ann", reason="again")

        assert Delivery.objects.get().state == "pending"
        assert failing_groups() == []

    def test_is_not_in_the_index_of_failing_deliveries(self, switch: Switch):
        """Seen to fail: a replay of many took the places of failing ones in the sample."""
        switch.error = None
        fail_once()
        operations.replay(operations.Choice(), by="cli:ann", reason="again")

        assert not Delivery.objects.filter(state="pending", started_token__gt=0).exists()
        run_messages(run_pass())
        assert Delivery.objects.get().state == "done"
        assert Delivery.objects.get().started_token == Delivery.objects.get().token

    def test_does_not_turn_the_light_red(self, switch: Switch):
        switch.error = None
        fail_once()
        operations.replay(operations.Choice(), by="cli:ann", reason="again")
        assert light().condition != Condition.FAILING

        run_pass()

        assert light().condition != Condition.FAILING

    def test_is_failing_since_its_own_first_failure(self, switch: Switch):
        fail_once()
        before = only().since
        switch.error = None
        expire_leases_and_backoffs()
        run_messages(run_pass())
        operations.replay(operations.Choice(), by="cli:ann", reason="again")
        switch.error = KeyError("points")
        run_messages(run_pass())

        found = only()
        assert found.exception == "KeyError"
        assert found.since > before


class TestAHandlerWithABreaker:
    def test_is_failing_while_its_breaker_is_open(self):
        @subscribe("shops.Ordered", breaker=Breaker(on=(ConnectionError,), failures=1))
        def call() -> None:
            raise ConnectionError("refused")

        fail_once()

        assert only().exception == "ConnectionError"


class TestADeadDelivery:
    def test_of_a_refused_event_is_no_failing_one(self):
        @subscribe("shops.Ordered", rules={ValueError: Dead()})
        def refuse() -> None:
            raise ValueError("no")

        fail_once()

        assert failing_groups() == []
        assert [one.exception for one in dead_groups()] == ["ValueError"]


class TestADeadWorker:
    @pytest.fixture(autouse=True)
    def killed(self, own_registry: None) -> None:
        @subscribe("shops.Ordered")
        def kill(number: int) -> None: ...

        self.die()

    def die(self) -> None:
        """Let the worker of a new delivery die while the handler runs."""
        emit_orders()
        run_pass()
        started = {"started_token": 1, "started_at": timezone.now(), "attempts": 1, "worker": "w"}
        Delivery.objects.filter(state="sent").update(**started)
        expire_leases_and_backoffs()
        run_pass()

    def test_is_a_group_without_an_exception(self):
        found = only()

        assert (found.handler, found.exception) == ("tests.kill", "")
        assert found.cause == "the worker died"

    def test_that_was_found_alive_is_a_group_of_its_own(self):
        """Failed: one group, "the worker died", although one of the two workers is alive."""
        self.die()
        withdraw(Delivery.objects.latest("pk"))

        assert {one.cause: one.number for one in failing_groups()} == {
            "the worker died": 1,
            "the database could not be reached": 1,
        }

    def test_that_was_found_alive_is_retried_by_the_command_of_its_group(self):
        """Failed: the command and the button chose no delivery."""
        row = Delivery.objects.get()
        withdraw(row)
        Delivery.objects.update(state="pending", due_at=timezone.now() + timedelta(hours=1))
        command = shlex.split(only().retry)[2:]

        outbox_command(*command)

        row.refresh_from_db()
        assert row.due_at <= timezone.now()


def withdraw(row: Delivery) -> None:
    """Withdraw the recorded death, as the worker does after it has reconnected."""
    death = row.failures.get()
    withdraw_deaths([row.pk], worker="w", started_at=death.started_at, using="default")


@pytest.mark.usefixtures("award")
class TestManyFailingDeliveries:
    @pytest.fixture(autouse=True)
    def _small_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("outbox.monitor.sampling._MOST_OF_ONE", 10)

    def spread(self) -> None:
        """Let one delivery be due each minute, in the order of their emission."""
        begin = timezone.now() + timedelta(minutes=1)
        for number, row in enumerate(Delivery.objects.order_by("pk")):
            due_at = begin + timedelta(minutes=number)
            Delivery.objects.filter(pk=row.pk).update(due_at=due_at)

    def test_are_sampled_over_their_due_times_and_counted_completely(self, switch: Switch):
        fail_once(24)
        self.spread()

        found = only()
        assert (found.number, found.is_least) == (10, True)
        assert found.number_text == "at least 10 deliveries (a sample was read)"
        assert count_failing(failing_view()) == {"tests.award_points": 24}

    def test_have_a_group_that_is_neither_due_first_nor_last(self, switch: Switch):
        """Seen to fail with a sample of both ends."""
        for error in (KeyError("a"), ValueError("b"), ZeroDivisionError("c")):
            switch.error = error
            fail_once(8)
        self.spread()

        found = {one.exception for one in failing_groups()}
        assert found == {"KeyError", "ValueError", "ZeroDivisionError"}

    def test_may_have_failed_before_the_first_failure_of_the_sample(self):
        fail_once(24)

        assert f"since {only().since:%H:%M} UTC or earlier" in only().text

    def test_are_named_as_examined_in_part(self):
        fail_once(11)

        assert failing_view().unexamined == ("tests.award_points",)

    def test_are_not_named_so_if_all_are_examined(self):
        fail_once(10)

        assert failing_view().unexamined == ()

    def test_are_named_so_even_without_a_group(self):
        """Seen to fail: a handler whose sample had no failed attempt was shown as healthy."""
        fail_once(11)
        Attempt.objects.all().delete()

        assert failing_view() == FailingView(groups=[], unexamined=("tests.award_points",))

    def test_that_run_do_not_hide_those_of_another_handler(self):
        """Seen to fail with one limit for all running deliveries."""
        fail_once(24)

        @subscribe("shops.Sent")
        def notify() -> None:
            raise KeyError("mail")

        Outbox().given("shops.Sent", order_id=uuid4())
        run_messages(run_pass())
        expire_leases_and_backoffs()
        run_pass()

        assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}
        assert {one.handler for one in failing_groups()} == {"tests.award_points", "tests.notify"}
        assert failing_view().unexamined == ("tests.award_points",)

    def test_do_not_hide_another_handler(self):
        @subscribe("shops.Ordered")
        def notify() -> None:
            raise KeyError("mail")

        fail_once(24)

        assert sorted(one.handler for one in failing_groups()) == [
            "tests.award_points",
            "tests.notify",
        ]
        assert count_failing(failing_view()) == {"tests.award_points": 24, "tests.notify": 24}


@pytest.mark.usefixtures("award")
class TestPruning:
    """A group has no rows of its own: it ends with its deliveries and their attempts."""

    def test_keeps_a_group_with_the_time_of_its_first_failure(self):
        fail_once()
        first = only().since
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=400))

        assert operations.prune(older_than=timedelta(days=30), by="cli:ann") == 0

        assert only().since == first

    def test_leaves_nothing_of_a_group_that_has_ended(self, switch: Switch):
        fail_once()
        switch.error = None
        expire_leases_and_backoffs()
        run_messages(run_pass())
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=400))

        assert operations.prune(older_than=timedelta(days=30), by="cli:ann") == 1

        assert failing_groups() == []
        assert not Attempt.objects.exists()


def test_nothing_is_failing_in_an_empty_outbox():
    assert failing_groups() == []
