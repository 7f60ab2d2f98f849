"""The outbox's needs apply to its own tasks, messages and connections, whatever the project set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from celery import Celery
from django.core.checks import run_checks
from kombu import Connection, Exchange, Queue

from outbox import celery as outbox_celery
from outbox import subscribe
from outbox.checks.celery import check_celery
from outbox.lost_hosts import rabbitmq_options, redis_options
from outbox.models import Delivery
from outbox.relay.passes import relay
from outbox.tasks import send_canary
from outbox.testing import Outbox
from outbox.transports.celery_broker import TASK, CeleryTransport
from outbox.transports.celery_settings import TASK_OPTIONS, own_connection
from tests.outbox.project.celery import app as app_of_project

#: Settings of a project that the outbox needs otherwise for itself.
CONTRARY: dict[str, Any] = {
    "task_acks_late": False,
    "task_acks_on_failure_or_timeout": False,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": False,
    "task_store_errors_even_if_ignored": True,
    "task_track_started": True,
    "task_serializer": "yaml",
    "task_time_limit": 30,
    "task_soft_time_limit": 20,
    "task_default_rate_limit": "1/m",
    "task_annotations": {"*": {"rate_limit": "10/m", "acks_late": False, "time_limit": 7}},
    "task_create_missing_queues": False,
    "task_queues": [Queue("celery", Exchange("celery"), routing_key="celery")],
    "task_routes": {"*": {"exchange": "elsewhere", "routing_key": "elsewhere", "priority": 3}},
    "accept_content": ["json", "yaml"],
    "beat_schedule": {"sweep": {"task": "project.sweep", "schedule": 60.0}},
}


@pytest.fixture
def app() -> Iterator[Celery]:
    """A Celery app with contrary settings, which has the outbox."""
    made = Celery("foreign", broker="memory://")
    made.conf.update(CONTRARY)
    outbox_celery.install(made)
    made.set_current()
    try:
        yield made
    finally:
        app_of_project.set_current()
        made.close()


@pytest.fixture
def sweep(app: Celery) -> Any:
    """A task of the project."""

    @app.task(name="project.sweep", shared=False)
    def sweep() -> None: ...

    return sweep


class TestATaskOfTheOutbox:
    def test_has_its_own_options(self, app: Celery):
        app.finalize()

        for name in (TASK, "outbox.relay", "outbox.prune", "outbox.canary"):
            task = app.tasks[name]
            assert options_of(task) == TASK_OPTIONS

    def test_leaves_other_tasks_as_they_were(self, app: Celery, sweep: Any):
        without = Celery("foreign", broker="memory://", set_as_current=False)
        without.conf.update(CONTRARY)

        @without.task(name="project.before", shared=False)
        def before() -> None: ...

        assert options_of(sweep) == options_of(before)


def options_of(task: Any) -> dict[str, Any]:
    """Return a task's options; an older Celery lacks some."""
    return {option: getattr(task, option, None) for option in TASK_OPTIONS}


@pytest.mark.usefixtures("own_registry")
class TestAMessage:
    def test_reaches_the_queue_of_its_handler(self, app: Celery):
        """Failed with QueueNotFound, or reached the exchange of task_routes."""

        @subscribe("shops.Ordered", queue="labels")
        def print_label() -> None: ...

        Outbox().given("shops.Ordered", order_id=uuid4())

        with app.connection_for_read() as connection:
            relay(publish=CeleryTransport().dispatch)
            [message] = received(connection, "labels")

        assert message.content_type == "application/json"
        assert message.headers["timelimit"] == [TASK_OPTIONS["time_limit"]] * 2
        assert Delivery.objects.get().state == Delivery.State.SENT

    def test_of_the_doctor_reaches_its_queue(self, app: Celery):
        with app.connection_for_read() as connection:
            send_canary("labels", "one", expires=10)
            [message] = received(connection, "labels")

        assert message.headers["task"] == "outbox.canary"


def received(connection: Connection, queue: str) -> list[Any]:
    """Read and remove all messages of a queue."""
    with connection.SimpleQueue(queue) as waiting:
        return [waiting.get(block=False) for _ in range(waiting.qsize())]


class TestTheConnection:
    def test_has_timeouts_unless_the_project_set_others(self, app: Celery):
        app.conf["broker_url"] = "redis://127.0.0.1:1/0"
        app.conf.broker_transport_options = {"socket_timeout": 60, "visibility_timeout": 7200}

        options = own_connection(app).transport_options

        assert options == {
            **redis_options(),
            "socket_timeout": 60,
            "visibility_timeout": 7200,
        }
        assert app.connection_for_write().transport_options == {
            "socket_timeout": 60,
            "visibility_timeout": 7200,
        }

    def test_to_rabbitmq_awaits_no_confirm_for_ever(self, app: Celery):
        """RabbitMQ's heartbeats begin the time limit of an answer again."""
        app.conf["broker_url"] = "amqp://127.0.0.1:1//?heartbeat=4"
        app.conf.broker_transport_options = {"read_timeout": None, "heartbeat": 4}

        options = own_connection(app).transport_options

        assert options == {**rabbitmq_options(), "heartbeat": 0}

    def test_asks_the_next_sentinel_if_one_does_not_answer(self, app: Celery):
        app.conf["broker_url"] = "sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:2/0"
        app.conf.broker_transport_options = {"master_name": "shop"}

        options = own_connection(app).transport_options

        assert options == redis_options(master_name="shop")
        assert options["sentinel_kwargs"]["retry"] is None

    def test_has_time_for_each_node_of_rabbitmq(self, app: Celery):
        app.conf["broker_url"] = "amqp://127.0.0.1:1//;amqp://127.0.0.1:2//"

        options = own_connection(app).transport_options

        assert options == {**rabbitmq_options(nodes=2), "heartbeat": 0}
        assert options["connect_retries_timeout"] > 2 * app.conf.broker_connection_timeout
        assert rabbitmq_options(nodes=1).keys() < options.keys()


class TestTheSchedule:
    def test_has_the_outbox_s_entries_beside_those_of_the_project(self, app: Celery):
        assert set(app.conf.beat_schedule) == {"sweep", "outbox.relay", "outbox.prune"}
        assert CONTRARY["beat_schedule"].keys() == {"sweep"}

    def test_leaves_an_entry_of_the_project_for_the_same_task(self):
        entry = {"task": "outbox.relay", "schedule": 3.0}
        app = Celery("foreign", broker="memory://", set_as_current=False)
        app.config_from_object({"beat_schedule": {"relay": entry}})
        outbox_celery.install(app)

        assert set(app.conf.beat_schedule) == {"relay", "outbox.prune"}
        assert app.conf.beat_schedule["relay"] == entry

    def test_is_added_to_an_app_that_has_read_its_settings(self):
        app = Celery("foreign", broker="memory://", set_as_current=False)
        assert app.conf.beat_schedule == {}

        outbox_celery.install(app)

        assert set(app.conf.beat_schedule) == {"outbox.relay", "outbox.prune"}


class TestTheChecks:
    def test_find_nothing_in_contrary_settings_of_other_tasks(self, app: Celery):
        assert check_celery() == []

    @pytest.mark.parametrize(
        ("name", "value", "id", "said"),
        [
            ("accept_content", ["yaml"], "outbox.E070", "workers refuse the outbox's messages"),
            ("task_always_eager", True, "outbox.W071", "the relay runs handlers itself"),
            ("worker_consumer", "celery.worker.consumer:Consumer", "outbox.W073", "may end when"),
        ],
    )
    def test_name_the_setting(self, app: Celery, name: str, value: object, id: str, said: str):
        app.conf[name] = value

        [found] = check_celery()

        assert found.id == id
        assert name in found.msg
        assert said in found.msg
        assert found.hint

    @pytest.mark.parametrize(("seconds", "ids"), [(315, ["outbox.W072"]), (316, [])])
    def test_compare_redis_s_timeout_with_the_acknowledgement(
        self, app: Celery, seconds: int, ids: list[str]
    ):
        app.conf["broker_url"] = "redis://127.0.0.1:1/0"
        app.conf.broker_transport_options = {"visibility_timeout": seconds}

        assert [one.id for one in check_celery()] == ids

    def test_name_an_app_without_the_outbox(self, app: Celery):
        Celery("unfinished", broker="memory://")

        [found] = [one for one in run_checks(tags=["outbox"]) if one.id == "outbox.W070"]

        assert "The current Celery app (unfinished) does not have the outbox" in found.msg
        assert "install(app) of outbox.celery" in str(found.hint)

    def test_find_nothing_without_celery(self, app: Celery):
        app.conf.accept_content = ["yaml"]

        with patch("outbox.transports.celery_app.is_importable", return_value=False):
            assert check_celery() == []
