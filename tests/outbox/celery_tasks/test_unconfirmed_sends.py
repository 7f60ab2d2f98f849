"""Sends that RabbitMQ does not confirm: they are interrupted, or their answer is overdue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from amqp.exceptions import AccessRefused, MessageNacked, PreconditionFailed
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from kombu.transport.memory import Channel
from kombu.utils.url import parse_url

import outbox.tasks  # noqa: F401  registers the task that a relay sends
from outbox.celery import OutboxTask
from outbox.celery_tasks import sending
from outbox.deliveries.time_limit import TimeLimitExceeded, time_limit
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.receipt import BulkDelivery
from outbox.testing import Outbox
from outbox.transports import celery_broker, celery_producers, celery_queues
from outbox.transports.base import Message, QueueUnavailable
from outbox.transports.celery_broker import CeleryTransport
from outbox.worker.calls import record_of
from tests.link import Link
from tests.outbox.celery_settings import current_app
from tests.servers.brokers import RabbitMQServer
from tests.threads import aside

from .conftest import Broker

pytestmark = pytest.mark.django_db(transaction=True)

#: Most producers of a pool of kombu, and a larger number of interruptions.
LIMIT, INTERRUPTIONS = 2, 3


def in_this_thread(function: Callable[[], object]) -> None:
    function()


def interrupt_sends(label: Any, queue: str) -> BulkDelivery:
    """Let a time limit interrupt sends of one call; return a delivery of this call."""
    label.apply_async(args=[7], queue=queue)
    event = Event.objects.get()
    call = record_of(event, event.payload)
    for _ in range(INTERRUPTIONS):
        with pytest.raises(TimeLimitExceeded), time_limit(1):
            sending.send_tasks([BulkDelivery(call)])
    return BulkDelivery(call)


class TestASendThatIsInterrupted:
    @pytest.mark.parametrize("run", [in_this_thread, aside])
    def test_takes_no_producer_from_later_sends(
        self,
        label: Any,
        broker: Broker,
        monkeypatch: pytest.MonkeyPatch,
        run: Callable[[Callable[[], object]], None],
    ):
        """Failed: after ten interrupted sends, the next ones failed with `LimitExceeded: 10`.

        The first interruption ends the wait for the confirm, the second one the wait for the end
        of the channel.
        """
        monkeypatch.setattr("kombu.pools._limit", [LIMIT])
        made: list[BulkDelivery] = []
        with monkeypatch.context() as patch:
            for step in ("basic_publish", "close"):
                patch.setattr(Channel, step, wait_for_ever)
            run(lambda: made.append(interrupt_sends(label, "labels")))

        sending.send_tasks(made)

        assert made[0].error is None
        assert len(broker.received("labels")) == 1


class TestAConnectionThatFails:
    def test_takes_idle_ones_with_it(self, label: Any, celery: Celery, broker: Broker):
        """Failed: after a restart of the broker, each dead connection failed a send of its own."""
        with ExitStack() as senders:
            for _ in range(3):
                senders.enter_context(celery_producers.producer(celery))
        assert len(celery_producers._idle_of(celery)) == 3

        with suppress(ConnectionResetError), celery_producers.producer(celery):
            raise ConnectionResetError

        assert not celery_producers._idle_of(celery)

    def test_is_kept_by_a_few_senders_only(self, celery: Celery):
        most = celery_producers._MOST_IDLE
        with ExitStack() as senders:
            for _ in range(most + 3):
                senders.enter_context(celery_producers.producer(celery))

        assert len(celery_producers._idle_of(celery)) == most


def wait_for_ever(*_args: Any, **_options: Any) -> None:
    while True:
        time.sleep(0.01)


def nacked() -> OperationalError:
    """Return the error that kombu makes of a message that RabbitMQ refuses."""
    error = OperationalError("")
    error.__cause__ = MessageNacked()
    return error


class TestAQueueThatTakesNothing:
    @pytest.fixture(autouse=True)
    def rabbitmq_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(celery_queues, "is_rabbitmq", lambda _: True)

    @pytest.fixture(params=["no confirm", "nack"])
    def asked(
        self, celery: Celery, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> list[str]:
        """The queues to which a task was sent. RabbitMQ takes nothing for "silent"."""
        send, queues = celery.send_task, list[str]()
        failure = TimeoutError() if request.param == "no confirm" else nacked()

        def send_task(*args: Any, **options: Any) -> Any:
            queues.append(options["queue"])
            if options["queue"] == "silent":
                raise failure
            return send(*args, **options)

        monkeypatch.setattr(celery, "send_task", send_task)
        return queues

    def test_fails_only_its_own_calls(self, label: Any, sender: Outbox, asked: list[str]):
        """Failed: the calls for all queues waited for the breaker, with an empty error."""
        for queue in ("silent", "others", "silent", "others"):
            label.apply_async(args=[7], queue=queue)

        sender.deliver_all(raise_errors=False)

        states = Delivery.objects.order_by("event").values_list("state", flat=True)
        waits, done = Delivery.State.PENDING, Delivery.State.DONE
        assert list(states) == [waits, done, waits, done]
        assert asked == ["silent", "others", "others"], "Each wait takes five seconds."
        assert {one.exception for one in Attempt.objects.all()} == {"QueueUnavailable"}
        assert all("for the queue silent" in one.message for one in Attempt.objects.all())
        assert Subscription.objects.get(handler=sending.HANDLER).breaker_failures == 0

    def test_is_an_outage_if_the_broker_takes_nothing_else(
        self, label: Any, sender: Outbox, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(Channel, "basic_publish", timed_out)
        for _ in range(2):
            label.apply_async(args=[7], queue="silent")

        sender.deliver_all(raise_errors=False)

        row = Subscription.objects.get(handler=sending.HANDLER)
        assert row.breaker_failures == 1, "One call is one failure."
        assert "The broker takes no task (TimeoutError: no answer in time)" in row.breaker_reason

    def test_is_asked_again_by_the_relay_after_pauses_that_double(
        self, celery: Celery, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: a network that was silent for some seconds held its queue for half a minute.

        Each object of the transport knows the pauses. Without that each beat would ask again.
        """
        asked: list[float] = []
        now = 1000.0

        def never_confirmed(_app: Celery, _message: Message) -> None:
            asked.append(now)
            raise TimeoutError

        monkeypatch.setattr(celery_broker, "_send_task", never_confirmed)
        monkeypatch.setattr("outbox.transports.celery_queues.time.monotonic", lambda: now)
        message = Message("parcels.print", "silent", 1, ((1, 1),))
        while now < 1040:
            with pytest.raises(QueueUnavailable, match="for the queue silent in time"):
                CeleryTransport().dispatch(message)
            now += 1

        assert asked == [1000, 1005, 1015, 1035]

    @pytest.mark.parametrize("kind", [PreconditionFailed, AccessRefused])
    def test_is_no_outage_if_its_arguments_or_permissions_are_refused(
        self, celery: Celery, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
    ):
        """Failed: the relay took it for an outage of the broker, and stopped for a second."""
        refusal = kind("inequivalent arg 'x-queue-type'")

        def refused(_app: Celery, _message: Message) -> None:
            raise refusal

        monkeypatch.setattr(celery_broker, "_send_task", refused)
        message = Message("parcels.print", "other arguments", 1, ((1, 1),))

        with pytest.raises(QueueUnavailable, match=r"its arguments differ.*inequivalent arg"):
            CeleryTransport().dispatch(message)

    def test_is_asked_as_before_once_it_has_taken_a_message(
        self, celery: Celery, monkeypatch: pytest.MonkeyPatch
    ):
        message = Message("parcels.print", "silent", 1, ((1, 1),))
        monkeypatch.setattr(celery_queues, "_FIRST_PAUSE", 0.0)
        with monkeypatch.context() as patch, pytest.raises(QueueUnavailable):
            patch.setattr(celery_broker, "_send_task", timed_out)
            CeleryTransport().dispatch(message)
        assert celery_queues._held[celery]

        monkeypatch.setattr(celery_broker, "_send_task", lambda _app, _message: None)
        CeleryTransport().dispatch(message)

        assert not celery_queues._held[celery]


def timed_out(*_args: Any, **_options: Any) -> None:
    raise TimeoutError


@pytest.fixture
def link(rabbitmq: RabbitMQServer) -> Iterator[Link]:
    """A link to RabbitMQ that can be silenced."""
    at = parse_url(rabbitmq.url)
    with Link((at["hostname"], at["port"])) as made:
        yield made


@pytest.fixture
def rabbit(link: Link) -> Iterator[Celery]:
    """The current app, whose connections to RabbitMQ pass the link."""
    with current_app(f"amqp://guest:guest@127.0.0.1:{link.port}//") as made:
        yield made


@pytest.fixture
def rabbit_label(sender: Outbox, rabbit: Celery) -> Any:
    @rabbit.task(base=OutboxTask, shared=False, name="parcels.send_label")
    def send_label(_parcel_id: Any) -> None: ...

    return send_label


@pytest.mark.processes
@pytest.mark.servers
@pytest.mark.once
class TestASendToRabbitMQThatIsInterrupted:
    def test_takes_no_producer_from_later_sends(
        self,
        rabbit_label: Any,
        link: Link,
        rabbit: Celery,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr("kombu.pools._limit", [LIMIT])
        queue = f"labels-{uuid4()}"
        with rabbit.connection_for_write() as connection:
            Queue(queue)(connection.default_channel).declare()
        link.silence()
        delivery = interrupt_sends(rabbit_label, queue)
        link.mend()

        sending.send_tasks([delivery])

        assert delivery.error is None
        assert Broker(rabbit).received(queue)


@pytest.mark.processes
@pytest.mark.servers
@pytest.mark.once
class TestAQueueWithoutALeader:
    def test_fails_only_its_own_calls_until_it_has_one(
        self, rabbit_label: Any, sender: Outbox, rabbit: Celery, rabbitmq: RabbitMQServer
    ):
        """Failed: the calls for all queues waited for the breaker, with an empty TimeoutError."""
        if rabbitmq.given:
            pytest.skip("The members of a given RabbitMQ's queues are not stopped.")
        led, leaderless = f"led-{uuid4()}", f"leaderless-{uuid4()}"
        rabbit.conf.task_queues = [Queue(led), quorum(leaderless)]
        rabbit_label.apply_async(args=[0], queue=leaderless)
        sender.deliver_all()
        for queue in (leaderless, led, leaderless, led):
            rabbit_label.apply_async(args=[7], queue=queue)

        with rabbitmq.without_leader(leaderless):
            sender.deliver_all(raise_errors=False)
            with pytest.raises(QueueUnavailable):
                CeleryTransport().dispatch(Message("parcels.print", leaderless, 1, ((1, 1),)))

        states = Delivery.objects.order_by("event").values_list("state", flat=True)
        waits, done = Delivery.State.PENDING, Delivery.State.DONE
        assert list(states) == [done, waits, done, waits, done]
        assert {one.exception for one in Attempt.objects.all()} == {"QueueUnavailable"}
        assert all(leaderless in one.message for one in Attempt.objects.all())
        assert Subscription.objects.get(handler=sending.HANDLER).breaker_failures == 0

        sender.let_pass(timedelta(days=1))
        sender.deliver_all()
        assert not Delivery.objects.exclude(state=done).exists()


@pytest.mark.processes
@pytest.mark.servers
@pytest.mark.once
class TestAQueueOfRabbitMQWithOtherArguments:
    def test_is_refused_to_the_relay_and_no_other_queue_is(self, rabbit: Celery):
        """Failed: the relay took the error of the channel for an outage of the broker."""
        refused, accepted = f"refused-{uuid4()}", f"accepted-{uuid4()}"
        with rabbit.connection_for_write() as connection:
            other = Queue(refused, queue_arguments={"x-max-length": 5})
            other(connection.default_channel).declare()

        with pytest.raises(QueueUnavailable, match="its arguments differ"):
            CeleryTransport().dispatch(Message("parcels.print", refused, 1, ((1, 1),)))
        CeleryTransport().dispatch(Message("parcels.print", accepted, 1, ((2, 1),)))

        assert len(Broker(rabbit).received(accepted)) == 1


def quorum(name: str) -> Queue:
    return Queue(name, queue_arguments={"x-queue-type": "quorum"})
