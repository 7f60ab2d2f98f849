"""`enqueue()` stores a task in the caller's transaction, or refuses it by name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import Settings

from outbox import cancel_delayed
from outbox.models import DelayedEvent, Event, Subscription
from outbox.storable import UnstorableValue
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure
from tests.outbox.tasks_backend.jobs import TaskResultStatus, api

pytestmark = pytest.mark.django_db(transaction=True)


def stored() -> int:
    return Event.objects.count() + DelayedEvent.objects.count()


def nested(levels: int) -> list[Any]:
    """Return lists in lists. Handlers cannot read more than 200."""
    value: list[Any] = []
    for _level in range(levels):
        value = [value]
    return value


class TestATask:
    @pytest.mark.parametrize("delay", [None, timedelta(hours=1)])
    def test_leaves_nothing_when_its_transaction_is_rolled_back(
        self, configure: Configure, delay: timedelta | None
    ):
        configure()
        at = timezone.now() + delay if delay else None

        with pytest.raises(IntegrityError), transaction.atomic():
            jobs.note.using(run_after=at).enqueue("x")
            assert stored() == 1
            raise IntegrityError

        assert stored() == 0

    def test_is_stored_once_without_a_transaction(self, configure: Configure):
        configure()

        result = jobs.note.enqueue("x", to="y")

        event = Event.objects.get(id=result.id)
        assert event.name == "outbox.TaskEnqueued.default.default"
        assert event.key == "tests.outbox.tasks_backend.jobs.note"
        assert (event.payload["args"], event.payload["kwargs"]) == (["x"], {"to": "y"})

    def test_may_be_as_large_as_an_event(self, configure: Configure):
        """Events have no largest size, so tasks have none either."""
        outbox = configure()
        text = "x" * 1_000_000

        result = jobs.note.enqueue(text)
        outbox.deliver_all()

        assert jobs.seen == [((text,), {})]
        assert jobs.note.get_result(result.id).args == [text]

    def test_has_a_result_that_equals_the_stored_one(self, configure: Configure):
        configure()

        result = jobs.add.using(priority=7).enqueue(1, other=(2,))

        assert result == jobs.add.get_result(result.id)
        assert result.status is TaskResultStatus.READY
        assert (result.args, result.kwargs, result.attempts) == ([1], {"other": [2]}, 0)
        assert result.task.priority == 7

    def test_is_enqueued_by_async_code(self, configure: Configure):
        configure()

        result = async_to_sync(jobs.note.aenqueue)("x")

        assert jobs.note.get_result(result.id).args == ["x"]

    def test_is_announced_by_a_signal(self, configure: Configure):
        configure()
        ids: list[str] = []

        def receive(task_result: Any, **_kwargs: Any) -> None:
            ids.append(task_result.id)

        api.task_enqueued.connect(receive)
        try:
            result = jobs.note.enqueue()
        finally:
            api.task_enqueued.disconnect(receive)

        assert ids == [result.id]


class TestATaskWithRunAfter:
    def test_runs_when_it_is_due(self, configure: Configure):
        outbox = configure()
        at = timezone.now() + timedelta(hours=1)

        result = jobs.note.using(run_after=at).enqueue("x")
        outbox.deliver_all()
        assert jobs.seen == []
        assert jobs.note.get_result(result.id) == result
        outbox.let_pass(timedelta(hours=1, seconds=1))
        outbox.deliver_all()

        assert jobs.seen == [(("x",), {})]
        result.refresh()
        assert result.status is TaskResultStatus.SUCCESSFUL
        assert result.task.run_after == at

    def test_that_has_passed_runs_at_once(self, configure: Configure):
        outbox = configure()

        jobs.note.using(run_after=timezone.now() - timedelta(hours=1)).enqueue("x")
        outbox.deliver_all()

        assert jobs.seen == [(("x",), {})]

    def test_can_be_cancelled_before(self, configure: Configure):
        configure()
        result = jobs.note.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()

        assert cancel_delayed(UUID(result.id))

        with pytest.raises(api.TaskResultDoesNotExist):
            result.refresh()

    def test_without_a_time_zone_is_refused(self, configure: Configure):
        configure()

        with pytest.raises(api.InvalidTask, match=r"^note: run_after must be an aware datetime"):
            jobs.note.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001  it has to be naive


class TestARefusal:
    def test_of_an_argument_that_is_no_json_names_the_task_and_the_next_step(
        self, configure: Configure
    ):
        configure()

        with pytest.raises(TypeError, match=r"jobs\.note: kwargs contains .* Pass the id of a row"):
            jobs.note.enqueue(at=timezone.now())

        assert stored() == 0

    @pytest.mark.parametrize("value", [float("nan"), "\x00", {"a": ["\ud800"]}, nested(150)])
    def test_of_an_argument_that_not_every_database_stores(self, configure: Configure, value: Any):
        configure()

        with pytest.raises(UnstorableValue, match=r"^outbox\.TaskEnqueued.* cannot be stored: arg"):
            jobs.note.enqueue(value)

        assert stored() == 0

    def test_of_an_endless_list_names_the_task(self, configure: Configure):
        configure()

        with pytest.raises(TypeError, match=r"jobs\.note: args is nested too deeply\. Pass the id"):
            jobs.note.enqueue(nested(5000))

        assert stored() == 0

    def test_of_an_unknown_queue_names_the_queues(self, configure: Configure):
        configure("default", "mail")

        with pytest.raises(api.InvalidTask, match=r"note: Queue 'post' .* has default, mail"):
            jobs.note.using(queue_name="post")

    def test_of_a_task_that_no_worker_could_import(
        self, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ):
        configure()
        task = jobs.note
        monkeypatch.delattr(jobs, "note")

        with pytest.raises(api.InvalidTask, match=r"jobs\.note cannot be imported"):
            task.enqueue()

        assert stored() == 0

    def test_of_a_queue_without_a_subscription_names_the_command(self, configure: Configure):
        configure()
        Subscription.objects.all().delete()

        with pytest.raises(ImproperlyConfigured, match=r"no subscription.* `manage\.py migrate`"):
            jobs.note.enqueue()

        assert stored() == 0

    def test_of_a_project_without_the_app_is_a_check(
        self, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ):
        configure()
        jobs.leave_out_the_app(monkeypatch)

        (found,) = api.task_backends["default"].check()

        assert found.id == "outbox.E030"


class TestAResult:
    @pytest.mark.parametrize("result_id", ["123", "0190b3e8-0000-7000-8000-000000000000"])
    def test_of_an_unknown_id_does_not_exist(self, configure: Configure, result_id: str):
        configure()

        with pytest.raises(api.TaskResultDoesNotExist):
            jobs.note.get_result(result_id)

    def test_of_a_backend_that_was_renamed_names_the_next_step(
        self, configure: Configure, settings: Settings
    ):
        """Failed with an error of the settings, which no page of results expects."""
        configure()
        result = jobs.note.enqueue()
        settings.TASKS = {"renamed": settings.TASKS["default"]}

        with pytest.raises(api.InvalidTask, match=r"jobs\.note was .* to the backend 'default'"):
            api.task_backends["renamed"].get_result(result.id)

    def test_of_an_event_that_is_no_task_does_not_exist(self, configure: Configure):
        outbox = configure()
        event = outbox.given("parcels.ParcelSent", parcel_id=uuid4())

        with pytest.raises(api.TaskResultDoesNotExist):
            jobs.note.get_result(str(event.id))
