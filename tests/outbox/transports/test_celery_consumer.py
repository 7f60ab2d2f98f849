from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import state
from celery.worker.consumer import consumer as consumers
from kombu import Connection

from outbox.transports.celery_broker import TASK
from outbox.transports.celery_consumer import Consumer, _virtual_channels
from tests.closed_port import port_of_nobody


class TestALostConnectionToRabbitMQ:
    def test_is_not_reopened_by_reading_its_attributes(self):
        """With the public name, `connection`: refused, and the worker ends."""
        lost = Connection(f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//", connect_timeout=1)

        assert _virtual_channels(lost) == []


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
