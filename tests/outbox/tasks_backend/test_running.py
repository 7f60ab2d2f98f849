"""A worker runs a task: its arguments, context, return value, retries and end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from outbox import Dead, operations
from outbox.deliveries import failpoints
from outbox.models import Attempt, Delivery, Event
from outbox.operations import Choice
from outbox.tasks_backend import WorkerDied
from outbox.tasks_backend.errors import TaskExited, TaskMissing
from outbox.testing import Outbox
from tests.outbox.drive import (
    Died,
    die,
    expire_leases_and_backoffs,
    run_message,
    run_pass,
    states,
)
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure
from tests.outbox.tasks_backend.jobs import TaskResultStatus, api

pytestmark = pytest.mark.django_db(transaction=True)

LONG = timedelta(days=1)


def run_to_the_end(outbox: Outbox) -> None:
    """Run all that waits, and after each failure its next attempt, until nothing is left."""
    outbox.let_pass(LONG)
    while outbox.deliver_all(raise_errors=False):
        outbox.let_pass(LONG)


@pytest.fixture
def signals() -> Iterator[list[tuple[str, Any, int]]]:
    """Yield the signals of running tasks: name, status, and whether a transaction was open."""
    from django.db import connection

    found: list[tuple[str, Any, int]] = []

    def started(task_result: Any, **_kwargs: Any) -> None:
        found.append(("started", task_result.status, len(connection.atomic_blocks)))

    def finished(task_result: Any, **_kwargs: Any) -> None:
        found.append(("finished", task_result.status, len(connection.atomic_blocks)))

    api.task_started.connect(started)
    api.task_finished.connect(finished)
    yield found
    api.task_started.disconnect(started)
    api.task_finished.disconnect(finished)


class TestATaskThatSucceeds:
    @pytest.mark.parametrize("task", [jobs.add, jobs.add_later], ids=["plain", "async"])
    @pytest.mark.parametrize("atomic", [True, False])
    def test_has_its_return_value(self, configure: Configure, task: Any, *, atomic: bool):
        outbox = configure(atomic=atomic)

        result = task.enqueue(1, other=2)
        outbox.deliver_all()
        result.refresh()

        assert result.status is TaskResultStatus.SUCCESSFUL
        assert (result.return_value, result.attempts, result.errors) == (3, 1, [])
        assert result.worker_ids == ["test"]
        assert result.enqueued_at <= result.started_at <= result.finished_at
        assert result.started_at == result.last_attempted_at

    def test_gets_its_context(self, configure: Configure):
        outbox = configure()

        result = jobs.see_context.enqueue("id:")
        outbox.deliver_all()
        result.refresh()

        assert result.return_value == f"id: {result.id}"
        assert jobs.seen == [(1, TaskResultStatus.RUNNING, ["test"], ["id:"])]

    def test_is_announced_after_its_commit(
        self, configure: Configure, signals: list[tuple[str, Any, int]]
    ):
        outbox = configure(atomic=True)

        jobs.note.enqueue()
        outbox.deliver_all()

        assert signals == [
            ("started", TaskResultStatus.RUNNING, 1),
            ("finished", TaskResultStatus.SUCCESSFUL, 0),
        ]

    def test_causes_the_events_that_it_emits(self, configure: Configure):
        outbox = configure()

        result = jobs.assign_place.enqueue(str(uuid4()))
        outbox.deliver_all()

        emitted = Event.objects.get(name="depot.PlaceAssigned")
        assert str(emitted.causation_id) == result.id
        assert emitted.emitted_by == "tasks.default.default"


class TestTheTransactionOfATask:
    @pytest.mark.parametrize("atomic", [True, False])
    def test_is_open_if_its_queue_is_atomic(self, configure: Configure, *, atomic: bool):
        outbox = configure("default", "mail", queues={"mail": {"atomic": atomic}})

        result = jobs.is_in_transaction.using(queue_name="mail").enqueue()
        outbox.deliver_all()
        result.refresh()

        assert result.return_value is atomic

    @pytest.mark.parametrize(("atomic", "groups"), [(True, 0), (False, 1)])
    def test_has_the_effects_of_an_atomic_task_that_fails(
        self, configure: Configure, groups: int, *, atomic: bool
    ):
        outbox = configure(atomic=atomic, attempts=1)

        jobs.create_group.enqueue("x", fails=True)
        outbox.deliver_all(raise_errors=False)

        assert Group.objects.count() == groups

    @pytest.mark.parametrize("atomic", [True, False])
    def test_has_its_return_value_and_its_receipt(self, configure: Configure, *, atomic: bool):
        configure(atomic=atomic)
        result = jobs.add.enqueue(1, 2)
        (message,) = run_pass()

        with pytest.raises(Died), failpoints.armed(failpoints.BEFORE_RECEIPT, die):
            run_message(message)

        assert list(Delivery.objects.values_list("state", "returned")) == [("sent", None)]
        result.refresh()
        assert result.status is TaskResultStatus.RUNNING


class TestATaskThatFails:
    def test_is_tried_again(self, configure: Configure):
        outbox = configure()

        result = jobs.fail_until.enqueue(3)
        outbox.deliver_all(raise_errors=False)
        result.refresh()
        assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
        run_to_the_end(outbox)
        result.refresh()

        assert result.status is TaskResultStatus.SUCCESSFUL
        assert (result.return_value, result.attempts) == ("found", 3)
        assert [one.exception_class for one in result.errors] == [LookupError, LookupError]
        assert result.started_at < result.last_attempted_at

    def test_keeps_personal_data_out_of_its_errors(self, configure: Configure):
        outbox = configure()

        result = jobs.fail_until.enqueue(2)
        outbox.deliver_all(raise_errors=False)
        result.refresh()

        assert "LookupError: the shelf of *** is empty" in result.errors[0].traceback

    def test_is_dead_after_its_last_attempt(
        self, configure: Configure, signals: list[tuple[str, Any, int]]
    ):
        outbox = configure(attempts=2)

        result = jobs.fail_until.enqueue(9)
        run_to_the_end(outbox)
        result.refresh()

        assert (result.status, result.attempts, states()) == (TaskResultStatus.FAILED, 2, ["dead"])
        assert result.finished_at is not None
        with pytest.raises(ValueError, match="Task failed"):
            _ = result.return_value
        assert [one[:2] for one in signals if one[0] == "finished"] == [
            ("finished", TaskResultStatus.FAILED)
        ]

    def test_is_logged_with_a_masked_text(
        self, configure: Configure, caplog: pytest.LogCaptureFixture
    ):
        outbox = configure(attempts=1)

        jobs.fail_until.enqueue(2)
        outbox.deliver_all(raise_errors=False)

        (logged,) = [
            one for one in caplog.records if one.name == jobs.LOGGER and one.levelname == "ERROR"
        ]
        assert logged.exc_info is not None
        assert str(logged.exc_info[1]) == "LookupError: the shelf of *** is empty"

    def test_is_ready_again_when_staff_retry_it(self, configure: Configure):
        outbox = configure(attempts=1)
        result = jobs.fail_until.enqueue(2)
        outbox.deliver_all(raise_errors=False)

        operations.retry(Choice(handler="tasks.default.default"), by="staff", reason="mended")
        result.refresh()
        assert result.status is TaskResultStatus.READY
        outbox.deliver_all()
        result.refresh()

        assert (result.return_value, result.attempts) == ("found", 2)

    def test_runs_with_corrected_arguments(self, configure: Configure):
        outbox = configure(attempts=1)
        jobs.add.using(priority=3).enqueue(1, "two")
        outbox.deliver_all(raise_errors=False)
        dead = Delivery.objects.get(state="dead")
        payload = {**dead.event.payload, "args": [1, 2]}

        event = operations.correct(dead.pk, payload, by="staff", reason="a number")
        outbox.deliver_all()

        assert event.name == dead.event.name
        assert jobs.add.get_result(str(event.id)).return_value == 3
        assert event.deliveries.get().priority == 3

    def test_for_good_is_not_tried_again(self, configure: Configure):
        outbox = configure()

        result = jobs.refuse.enqueue()
        outbox.deliver_all(raise_errors=False)
        result.refresh()

        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)

    def test_by_a_rule_of_its_queue_is_discarded(self, configure: Configure):
        outbox = configure(rules=jobs.RULES)

        result = jobs.not_needed.enqueue()
        outbox.deliver_all(raise_errors=False)
        result.refresh()

        assert (result.status, states()) == (TaskResultStatus.FAILED, ["discarded"])

    def test_by_system_exit_leaves_the_worker_running(self, configure: Configure):
        outbox = configure(attempts=1)

        result = jobs.leave.enqueue()
        outbox.deliver_all(raise_errors=False)
        result.refresh()

        assert result.errors[0].exception_class is TaskExited
        assert "SystemExit: 3" in result.errors[0].traceback

    @pytest.mark.parametrize(
        "task", [jobs.return_a_function, jobs.return_a_nul, jobs.return_itself]
    )
    def test_by_its_return_value_has_run_once(self, configure: Configure, task: Any):
        outbox = configure()

        result = task.enqueue()
        run_to_the_end(outbox)
        result.refresh()

        assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
        assert "return" in Attempt.objects.get().message

    def test_by_the_death_of_its_worker_names_it(self, configure: Configure):
        configure(attempts=1)
        result = jobs.note.enqueue()
        (message,) = run_pass()
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_START, die):
            run_message(message)

        expire_leases_and_backoffs()
        run_pass()
        result.refresh()

        assert result.status is TaskResultStatus.FAILED
        assert [one.exception_class for one in result.errors] == [WorkerDied]
        assert result.worker_ids == ["w1"]


class TestATaskThatThisCodeLacks:
    def test_waits_for_a_deploy_and_is_then_dead(
        self, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ):
        outbox = configure()
        jobs.note.enqueue()
        monkeypatch.delattr(jobs, "note")

        (first,) = outbox.deliver_all(raise_errors=False)
        assert isinstance(first.error, TaskMissing)
        assert states() == ["pending"]
        run_to_the_end(outbox)

        row = Delivery.objects.get()
        assert (row.state, row.failures.count()) == ("dead", 10)
        assert "Deploy a release that has this task" in row.note

    @pytest.mark.parametrize("options", [{"attempts": 1}, {"rules": {Exception: Dead()}}])
    def test_waits_for_a_deploy_whatever_the_policy_of_its_queue(
        self,
        configure: Configure,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
    ):
        """Failed: a worker of the release before made the task dead at once."""
        outbox = configure(**options)
        jobs.note.enqueue(7)
        with monkeypatch.context() as before:
            before.delattr(jobs, "note")
            outbox.deliver_all(raise_errors=False)
        assert states() == ["pending"]

        run_to_the_end(outbox)

        assert states() == ["done"]
        assert jobs.seen == [((7,), {})]

    def test_because_the_name_is_another_object_is_never_called(
        self, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ):
        outbox = configure(attempts=1)
        jobs.note.enqueue()
        monkeypatch.setattr(jobs, "note", jobs.function)

        outbox.deliver_all(raise_errors=False)

        assert "is a function and not a task" in Delivery.objects.get().note

    def test_has_no_result_here(self, configure: Configure, monkeypatch: pytest.MonkeyPatch):
        configure()
        result = jobs.note.enqueue()
        monkeypatch.delattr(jobs, "note")

        with pytest.raises(api.InvalidTask, match=r"jobs\.note cannot be imported"):
            api.task_backends["default"].get_result(result.id)


class TestATaskOfATransaction:
    def test_runs_after_the_commit(self, configure: Configure):
        outbox = configure()

        with transaction.atomic():
            jobs.note.enqueue(1)
            jobs.note.enqueue(2)
        outbox.deliver_all()

        assert jobs.seen == [((1,), {}), ((2,), {})]
