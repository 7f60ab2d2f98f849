"""Calls of a task with the base OutboxTask."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, chain, chord, group
from django.db import transaction

from outbox.celery import OutboxTask
from outbox.celery_tasks.options import RefusedOption
from outbox.context import Cause, acting_as, caused_by
from outbox.models import DelayedEvent, Event
from outbox.privacy.sensitive import masked
from outbox.testing import Outbox

from .conftest import Broker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def plain(celery: Celery) -> Any:
    @celery.task(shared=False, name="parcels.plain")
    def run(*_args: Any) -> None: ...

    return run


def queue_of(celery: Celery) -> str:
    return str(celery.conf.task_default_queue)


class TestACallInATransaction:
    def test_is_sent_after_the_commit(
        self, label: Any, sender: Outbox, broker: Broker, celery: Celery
    ):
        """Seen to fail with `super().apply_async` in any case."""
        with transaction.atomic():
            result = label.delay(7, copies=2)
            assert broker.received(queue_of(celery)) == []

        sender.deliver_all()

        [message] = broker.received(queue_of(celery))
        assert message.headers["task"] == "parcels.send_label"
        assert message.headers["id"] == result.id == message.properties["correlation_id"]
        assert json.loads(message.body)[:2] == [[7], {"copies": 2}]

    def test_is_not_sent_after_a_rollback(
        self, label: Any, sender: Outbox, broker: Broker, celery: Celery
    ):
        """Seen to fail with a transaction of its own for each call."""
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            label.delay(7)
            raise ZeroDivisionError

        sender.deliver_all()

        assert not Event.objects.exists()
        assert broker.received(queue_of(celery)) == []

    def test_is_allowed_by_the_guards(self, label: Any):
        """`GUARD_TASKS` is on in this project."""
        with transaction.atomic():
            label.delay(7)
            label.apply_async(args=[7])
            label.si(7).delay()

        assert Event.objects.count() == 3

    def test_keeps_the_id_that_the_caller_gives(self, label: Any):
        with transaction.atomic():
            result = label.apply_async(args=[7], task_id="label-7")

        assert result.id == "label-7"
        assert Event.objects.get().key == "label-7"

    def test_is_stored_now_by_delay_on_commit(self, label: Any):
        """Otherwise a process that dies between the commit and the call loses the task."""
        with transaction.atomic():
            label.delay_on_commit(7)
            label.apply_async_on_commit(args=[8])
            assert Event.objects.count() == 2


class TestACallWithoutATransaction:
    def test_is_stored_and_sent(self, label: Any, sender: Outbox, broker: Broker, celery: Celery):
        label.delay(7)

        assert Event.objects.count() == 1
        sender.deliver_all()
        assert len(broker.received(queue_of(celery))) == 1


class TestASecondDelivery:
    def test_has_the_same_task_id(self, label: Any, sender: Outbox, broker: Broker, celery: Celery):
        """A worker that died before the receipt has sent the task, and another sends it again."""
        result = label.delay(7)

        sender.deliver_all(twice=True)

        messages = broker.received(queue_of(celery))
        assert [one.headers["id"] for one in messages] == [result.id, result.id]


class TestTheMessage:
    def test_has_the_options_of_the_call(
        self, label: Any, plain: Any, sender: Outbox, broker: Broker
    ):
        expires = datetime(2031, 5, 1, tzinfo=UTC)
        label.apply_async(
            args=[7],
            queue="labels",
            priority=3,
            expires=expires,
            time_limit=9,
            headers={"x-tenant": "blue"},
            link=plain.s(),
            link_error=[plain.si(1)],
            ignore_result=True,
        )

        sender.deliver_all()

        [message] = broker.received("labels")
        assert message.properties["priority"] == 3
        assert message.headers["expires"] == expires.isoformat()
        assert message.headers["timelimit"] == [9, None]
        assert message.headers["x-tenant"] == "blue"
        assert message.headers["ignore_result"] is True
        embedded = json.loads(message.body)[2]
        assert [one["task"] for one in embedded["callbacks"]] == ["parcels.plain"]
        assert [one["task"] for one in embedded["errbacks"]] == ["parcels.plain"]

    def test_has_the_options_of_the_task(self, celery: Celery, sender: Outbox, broker: Broker):
        @celery.task(
            base=OutboxTask, shared=False, name="parcels.urgent", queue="urgent", expires=60
        )
        def send() -> None: ...

        send.delay()

        sender.deliver_all()
        [message] = broker.received("urgent")
        assert message.headers["expires"] is not None

    def test_is_routed_when_it_is_sent(
        self, label: Any, celery: Celery, sender: Outbox, broker: Broker
    ):
        celery.conf.task_routes = {"parcels.*": {"queue": "routed"}}
        label.delay(7)

        sender.deliver_all()

        assert len(broker.received("routed")) == 1

    @pytest.mark.parametrize("value", [uuid4(), date(2031, 5, 1), Decimal("1.50"), None, [1]])
    def test_has_the_types_that_celery_sends(
        self, label: Any, plain: Any, celery: Celery, sender: Outbox, broker: Broker, value: Any
    ):
        """The arguments are those of the same call of an ordinary task."""
        plain.delay(value)
        [expected] = broker.received(queue_of(celery))

        label.delay(value)
        sender.deliver_all()

        [message] = broker.received(queue_of(celery))
        assert json.loads(message.body)[0] == json.loads(expected.body)[0]

    def test_has_the_cause_of_its_event(
        self, label: Any, celery: Celery, sender: Outbox, broker: Broker
    ):
        cause = Cause(actor="user:7")
        with caused_by(cause):
            label.delay(7)

        sender.deliver_all()

        [message] = broker.received(queue_of(celery))
        event = Event.objects.get()
        assert message.headers["outbox_correlation_id"] == str(cause.correlation_id)
        assert message.headers["outbox_causation_id"] == str(event.id)
        assert message.headers["outbox_actor"] == "user:7"


class TestTheHeadersOfACaller:
    def test_do_not_replace_the_cause(
        self, label: Any, celery: Celery, sender: Outbox, broker: Broker
    ):
        """A task may pass on its own headers."""
        label.apply_async(args=[7], headers={"outbox_causation_id": "x", "x-tenant": "blue"})

        sender.deliver_all()

        [message] = broker.received(queue_of(celery))
        assert message.headers["outbox_causation_id"] == str(Event.objects.get().id)
        assert message.headers["x-tenant"] == "blue"


class TestALaterCall:
    @pytest.mark.parametrize(
        "when",
        [
            lambda: {"countdown": 3600},
            lambda: {"eta": datetime.now(UTC) + timedelta(hours=1)},
            lambda: {"eta": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
        ],
        ids=["countdown", "eta", "eta as text"],
    )
    def test_waits_in_the_database(
        self,
        label: Any,
        celery: Celery,
        sender: Outbox,
        broker: Broker,
        when: Callable[[], dict[str, Any]],
    ):
        """The broker and the workers hold no message with an eta."""
        label.apply_async(args=[7], **when())

        assert DelayedEvent.objects.count() == 1
        sender.deliver_all()
        assert broker.received(queue_of(celery)) == []
        sender.let_pass(timedelta(hours=1, seconds=1))
        sender.deliver_all()
        [message] = broker.received(queue_of(celery))
        assert message.headers["eta"] is None

    def test_is_sent_at_once_if_its_time_has_passed(self, label: Any):
        label.apply_async(args=[7], eta=datetime.now(UTC) - timedelta(hours=1))

        assert Event.objects.count() == 1


class TestACanvas:
    def test_begins_a_chain_with_its_first_task(
        self, label: Any, plain: Any, celery: Celery, sender: Outbox, broker: Broker
    ):
        with transaction.atomic():
            chain(label.si(7), plain.si(8), label.si(9)).apply_async()
            assert broker.received(queue_of(celery)) == []

        sender.deliver_all()

        [message] = broker.received(queue_of(celery))
        rest = json.loads(message.body)[2]["chain"]
        assert [one["task"] for one in rest] == ["parcels.send_label", "parcels.plain"]

    def test_stores_each_task_of_a_group(
        self, label: Any, celery: Celery, sender: Outbox, broker: Broker
    ):
        with transaction.atomic():
            result: Any = group(label.si(7), label.si(8)).apply_async()
            assert broker.received(queue_of(celery)) == []

        sender.deliver_all()

        messages = broker.received(queue_of(celery))
        assert {one.headers["group"] for one in messages} == {result.id}
        assert [one.headers["id"] for one in messages] == [one.id for one in result.results]

    def test_refuses_a_chord_of_stored_tasks(
        self, label: Any, plain: Any, celery: Celery, broker: Broker
    ):
        celery.conf.update(result_backend="cache+memory://")

        with pytest.raises(RefusedOption, match=r"send_label: the option chord is refused\. A cho"):
            chord([label.si(7), label.si(8)], plain.si()).apply_async()

        assert not Event.objects.exists()
        assert broker.received(queue_of(celery)) == []


class TestATaskThatRunsWhereItIsCalled:
    def test_runs_at_once_with_task_always_eager(self, celery: Celery, sender: Outbox):
        ran: list[int] = []

        @celery.task(base=OutboxTask, shared=False, name="parcels.eager")
        def task(one: int) -> None:
            ran.append(one)

        celery.conf.task_always_eager = True

        with transaction.atomic():
            task.delay(7)

        assert (ran, Event.objects.count()) == ([7], 0)

    def test_runs_at_once_by_apply_and_by_a_call(self, celery: Celery, sender: Outbox):
        ran: list[int] = []

        @celery.task(base=OutboxTask, shared=False, name="parcels.called")
        def task(one: int) -> None:
            ran.append(one)

        task.apply(args=(7,))
        task(8)

        assert (ran, Event.objects.count()) == ([7, 8], 0)


class TestThePayload:
    def test_is_masked_but_for_the_task_and_its_address(self, label: Any):
        label.apply_async(args=["ann@example.com"], queue="labels", headers={"x-user": "ann"})

        event = Event.objects.get()
        shown = masked(event)
        assert shown["task"] == "parcels.send_label"
        assert shown["options"]["queue"] == "labels"
        assert "ann" not in json.dumps(shown)

    def test_has_the_actor_of_the_caller(self, label: Any):
        with acting_as("job:labels"):
            label.delay(7)

        assert Event.objects.get().actor == "job:labels"
        assert isinstance(Event.objects.get().correlation_id, UUID)

    def test_is_masked_in_the_name_that_a_task_makes_of_its_arguments(self, label: Any):
        """`shadow_name` of a task gets the arguments."""
        label.apply_async(args=[7], shadow="label of hanako.yamada@example.com")

        assert "hanako" not in str(masked(Event.objects.get()))
