from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import ResourceLocked
from celery import Celery, bootsteps
from celery.worker import state
from celery.worker.consumer import consumer as consumers
from kombu import Connection

from outbox.transports import celery_consumer
from outbox.transports.celery_broker import TASK
from outbox.transports.celery_consumer import Consumer, _virtual_channels
from tests.closed_port import port_of_nobody


class TestALostConnectionToRabbitMQ:
    def test_is_not_reopened_by_reading_its_attributes(self):
        """With the public name, `connection`: refused, and the worker ends."""
        lost = Connection(f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//", connect_timeout=1)

        assert _virtual_channels(lost) == []


class TestAQueueThatRabbitMQHasNotReleased:
    """It is exclusive to the connection that was lost, and RabbitMQ has not noticed the loss."""

    def test_does_not_end_the_worker(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """Failed: `ResourceLocked` ended it."""
        monkeypatch.setattr(celery_consumer, "_LOCKED_SECONDS", 0.0)
        app = Celery("locked", broker="pyamqp://", set_as_current=False)
        app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
        pool = SimpleNamespace(num_processes=1, is_green=False, flush=lambda: None)
        worker = SimpleNamespace(use_eventloop=False, semaphore=None)
        consumer = Consumer(lambda _request: None, app=app, pool=pool, controller=worker)
        locked = [ResourceLocked("RESOURCE_LOCKED - cannot obtain exclusive access")]
        monkeypatch.setattr(consumer.blueprint, "start", lambda _consumer: start())
        monkeypatch.setattr(consumer.blueprint, "restart", lambda _consumer: None)
        consumer.connection = app.connection_for_read()

        def start() -> None:
            if locked:
                raise locked.pop()
            consumer.blueprint.state = vars(bootsteps)["CLOSE"]  # the stubs lack it

        consumer.start()

        assert "has not released a queue" in caplog.text


class TestAMessageThatRunsWhileTheConnectionIsLost:
    """With `worker_cancel_long_running_tasks_on_connection_loss`, Celery ends unacknowledged ones.

    It would end the process of a handler. Five such deaths make a delivery dead.
    """

    def test_is_not_cancelled_unlike_those_of_the_project(self, monkeypatch: pytest.MonkeyPatch):
        cancelled: list[str] = []
        ours, other = request(TASK, cancelled), request("project.sweep", cancelled)
        monkeypatch.setattr(consumers, "active_requests", [ours, other])
        monkeypatch.setattr(state, "active_requests", [ours, other])
        app = Celery("cancelling", broker="memory://", set_as_current=False)
        app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
        app.conf.worker_enable_prefetch_count_reduction = False
        consumer: Any = Consumer.__new__(Consumer)
        consumer.app, consumer.pool, consumer.connection = app, None, app.connection_for_read()

        consumer.on_connection_error_after_connected(OSError("the broker is away"))

        assert cancelled == ["project.sweep"]


def request(name: str, cancelled: list[str]) -> Any:
    """Return a running request whose task is acknowledged late."""
    return SimpleNamespace(
        name=name,
        task=SimpleNamespace(acks_late=True),
        acknowledged=False,
        cancel=lambda _pool: cancelled.append(name),
    )
