"""Database connections in a worker: tasks of the outbox keep them, other tasks do not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state, signals
from django.db import connection, transaction

from outbox.tasks import deliver_message
from outbox.transports import celery_connections
from outbox.transports.celery_broker import TASK
from tests.outbox.project.celery import app

#: Celery's stack of running tasks, of which `current_task` is the top. The stubs lack it.
TASKS = vars(_state)["_task_stack"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker_fixup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Celery's Django fixup as a worker of this app has it, with the outbox installed."""
    other = Celery("other", broker="memory://", set_as_current=False)
    [fixup] = vars(other)["_fixups"]
    fixup.on_worker_init(sender=SimpleNamespace(app=other, pool_cls="prefork"))
    celery_connections._keep(sender=SimpleNamespace(app=other))
    try:
        yield fixup.worker_fixup
    finally:
        of_worker = fixup.worker_fixup
        signals.beat_embedded_init.disconnect(of_worker.close_database)
        signals.task_prerun.disconnect(of_worker.on_task_prerun)
        signals.task_postrun.disconnect(of_worker.on_task_postrun)
        signals.worker_process_init.disconnect(of_worker.on_worker_process_init)


@contextmanager
def running(name: str) -> Iterator[Any]:
    """Run code as Celery's tracer runs a task of this name: between its two signals."""
    task: Any = deliver_message if name == TASK else sweep
    TASKS.push(task)
    task.push_request(is_eager=False)
    try:
        signals.task_prerun.send(sender=task, task=task)
        yield task
        signals.task_postrun.send(sender=task, task=task)
    finally:
        task.pop_request()
        TASKS.pop()


@app.task(name="project.sweep", shared=False)
def sweep() -> None: ...


def opened() -> Any:
    """Return this thread's connection to the database, opened if it was closed."""
    connection.ensure_connection()
    return connection.connection


class TestATaskOfTheOutbox:
    @pytest.mark.parametrize("max_age", [0, 60, None])
    def test_keeps_its_connection(
        self, worker_fixup: Any, monkeypatch: pytest.MonkeyPatch, max_age: int | None
    ):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", max_age)
        connection.close()
        with running(TASK):
            first = opened()

        with running(TASK):
            assert connection.connection is first

    def test_drops_one_that_is_too_old(self, worker_fixup: Any, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
        monkeypatch.setattr(celery_connections, "_KEPT_SECONDS", -1.0)
        connection.close()
        with running(TASK):
            opened()

        with running(TASK):
            assert connection.connection is None

    def test_drops_a_transaction_that_the_task_before_left_open(
        self, worker_fixup: Any, caplog: pytest.LogCaptureFixture
    ):
        left_open = transaction.atomic()
        left_open.__enter__()
        opened()

        with caplog.at_level(logging.WARNING), running(TASK):
            assert not connection.in_atomic_block

        assert "A task left a transaction open on default." in caplog.text


class TestATaskOfTheProject:
    def test_has_a_connection_of_its_own(self, worker_fixup: Any):
        """As without the outbox: Celery closes all connections before and after it."""
        with running(TASK):
            opened()

        with running("project.sweep"):
            assert connection.connection is None
            opened()

        assert connection.connection is None

    def test_keeps_a_transaction_that_is_open(self, worker_fixup: Any):
        """An eager task in a transaction, and a project that treats its own connections."""
        with transaction.atomic():
            before = opened()
            celery_connections.drop_old_connections(task=sweep)

            assert connection.connection is before
