"""The handler that sends stored calls: outages of the broker, refused queues, retries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, shared_task
from celery.exceptions import Retry
from django.db import transaction
from kombu import Queue
from kombu.exceptions import OperationalError

from outbox.celery import OutboxTask
from outbox.celery_tasks import context, sending
from outbox.context import Cause, caused_by
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.testing import Outbox
from tests.servers.brokers import RabbitMQServer

from .conftest import Broker

pytestmark = pytest.mark.django_db(transaction=True)


class Refused(OSError):
    """An error of the channel, as RabbitMQ's answer about one queue."""


@pytest.fixture
def label(celery: Celery, sender: Outbox) -> Any:
    @celery.task(base=OutboxTask, shared=False, name="parcels.send_label")
    def send_label(_parcel_id: Any) -> None: ...

    return send_label


@pytest.fixture
def fail(celery: Celery, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], None]:
    """Let the broker's client raise an error for each message to a queue."""

    def failing(queue: str, error: Exception) -> None:
        send = celery.send_task

        def raising(*args: Any, **options: Any) -> Any:
            if queue in (options.get("queue"), "*"):
                raise error
            return send(*args, **options)

        monkeypatch.setattr(celery, "send_task", raising)

    return failing


class TestABrokerThatIsDown:
    def test_leaves_the_calls_owed_and_opens_the_breaker(
        self, label: Any, sender: Outbox, fail: Callable[[str, Exception], None]
    ):
        """The connection is refused by the operating system: no server has this port."""
        unreachable = Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
        unreachable.conf.broker_transport_options = {"socket_connect_timeout": 1}
        unreachable.set_current()
        for _ in range(3):
            label.delay(7)

        sender.deliver_all(raise_errors=False)

        deliveries = Delivery.objects.all()
        assert {one.state for one in deliveries} == {Delivery.State.PENDING}
        row = Subscription.objects.get(handler=sending.HANDLER)
        assert row.breaker_failures == 1, "One call is one failure."
        assert "The broker takes no task" in row.breaker_reason

    def test_is_tried_again_until_it_is_back(
        self,
        label: Any,
        sender: Outbox,
        broker: Broker,
        celery: Celery,
        monkeypatch: pytest.MonkeyPatch,
        fail: Callable[[str, Exception], None],
    ):
        label.delay(7)
        with monkeypatch.context() as patch:
            patch.setattr(celery, "send_task", raises(ConnectionError("down")))
            sender.deliver_all(raise_errors=False)
        sender.let_pass(timedelta(days=1))

        sender.deliver_all()

        assert len(broker.received(str(celery.conf.task_default_queue))) == 1
        assert Delivery.objects.get().state == Delivery.State.DONE


def raises(error: Exception) -> Callable[..., Any]:
    def raising(*_args: Any, **_options: Any) -> Any:
        raise error

    return raising


class TestAQueueThatIsRefused:
    def test_fails_only_its_own_calls(
        self,
        label: Any,
        sender: Outbox,
        broker: Broker,
        celery: Celery,
        fail: Callable[[str, Exception], None],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Kombu raises OperationalError, from the error of the channel.

        Seen to fail with each OperationalError taken for an outage.
        """
        refusal = OperationalError("PRECONDITION_FAILED")
        refusal.__cause__ = Refused("other arguments")
        fail("refused", refusal)
        monkeypatch.setattr(
            "kombu.transport.memory.Transport.channel_errors", (Refused,), raising=False
        )
        label.apply_async(args=[1], queue="refused")
        label.apply_async(args=[2], queue="accepted")

        sender.deliver_all(raise_errors=False)

        states = Delivery.objects.order_by("event").values_list("state", flat=True)
        assert list(states) == [Delivery.State.PENDING, Delivery.State.DONE]
        assert len(broker.received("accepted")) == 1
        assert Subscription.objects.get(handler=sending.HANDLER).breaker_failures == 0

    @pytest.mark.processes
    @pytest.mark.servers
    @pytest.mark.once
    def test_of_rabbitmq_fails_only_its_own_calls(
        self, label: Any, sender: Outbox, rabbitmq: RabbitMQServer
    ):
        """RabbitMQ closes the channel, since the queue was declared with another argument."""
        app = Celery("rabbit", broker=rabbitmq.url, set_as_current=False)
        app.set_current()
        refused, accepted = f"refused-{uuid4()}", f"accepted-{uuid4()}"
        with app.connection_for_write() as connection:
            other = Queue(refused, queue_arguments={"x-max-length": 5})
            other(connection.default_channel).declare()
        for queue in (accepted, refused, accepted):
            label.apply_async(args=[7], queue=queue)

        sender.deliver_all(raise_errors=False)

        states = Delivery.objects.order_by("event").values_list("state", flat=True)
        assert list(states) == [Delivery.State.DONE, Delivery.State.PENDING, Delivery.State.DONE]
        assert len(Broker(app).received(accepted)) == 2
        assert Subscription.objects.get(handler=sending.HANDLER).breaker_failures == 0
        app.close()


class TestADeadLetter:
    def test_names_the_task_and_not_its_arguments(
        self, label: Any, sender: Outbox, fail: Callable[[str, Exception], None]
    ):
        fail("*", ValueError("ann@example.com is no queue"))
        label.delay("ann@example.com")

        sender.deliver_all(raise_errors=False)

        [attempt] = Attempt.objects.all()
        assert "ann@example.com" not in f"{attempt.message}"
        assert "parcels.send_label" in Event.objects.get().payload["task"]


class TestARetry:
    def test_is_sent_at_once(self, celery: Celery, sender: Outbox, broker: Broker):
        """The exception rolls back a transaction around it, and a stored retry with it."""

        @celery.task(base=OutboxTask, shared=False, name="parcels.again", bind=True)
        def again(self: Any) -> None:
            with transaction.atomic():
                raise self.retry(countdown=5)

        again.push_request(id="label-7", args=[], kwargs={}, called_directly=False)
        try:
            with pytest.raises(Retry):
                again.run()
        finally:
            again.pop_request()

        assert not Event.objects.exists()
        [message] = broker.received(str(celery.conf.task_default_queue))
        assert message.headers["id"] == "label-7"
        assert message.headers["retries"] == 1
        assert message.headers["eta"] is not None


class TestTheCauseOfATask:
    def test_is_that_of_its_call_while_it_runs(self, celery: Celery, sender: Outbox):
        """`install` connects these receivers to Celery's signals."""

        @celery.task(base=OutboxTask, shared=False, name="parcels.next")
        def following() -> None: ...

        cause = Cause(causation_id=uuid4(), actor="user:7")
        following.push_request(
            headers={
                "outbox_correlation_id": str(cause.correlation_id),
                "outbox_causation_id": str(cause.causation_id),
                "outbox_actor": cause.actor,
            }
        )
        with caused_by(Cause(actor="other")):
            context.begin(task=following)
            following.delay()
            context.end(task=following)
            following.delay()

        first, second = Event.objects.order_by("seq")
        assert first.correlation_id == cause.correlation_id
        assert (first.causation_id, first.actor) == (cause.causation_id, "user:7")
        assert (second.causation_id, second.actor) == (None, "other")

    @pytest.mark.parametrize(
        "headers", [None, {}, {"outbox_correlation_id": "x", "outbox_causation_id": 7}]
    )
    def test_is_not_set_by_other_headers(self, celery: Celery, sender: Outbox, headers: Any):
        @celery.task(base=OutboxTask, shared=False, name="parcels.other")
        def other() -> None: ...

        other.push_request(headers=headers)
        context.begin(task=other)
        other.delay()
        context.end(task=other)

        assert Event.objects.get().causation_id is None


class TestAModuleOfTasks:
    def test_needs_no_celery_app(self, sender: Outbox, celery: Celery):
        """`shared_task` finds the app at the first call."""

        @shared_task(base=OutboxTask, name="parcels.shared")
        def shared(parcel_id: int) -> None: ...

        result = shared.delay(7)

        assert Event.objects.get().key == result.id
