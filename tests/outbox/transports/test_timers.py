"""Cancelled timers of a worker's event loop. The row `hour` of the benchmarks measures a worker."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer

from outbox.celery import install
from outbox.transports.celery_settings import TASK_OPTIONS
from outbox.transports.celery_worker import TimerStep, remove_cancelled


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(timer=Timer())
    yield hub
    hub.close()


def run_a_task(pool: SimpleNamespace, number: int) -> None:
    """Set and cancel the time limit of a task as the prefork pool does."""
    task = SimpleNamespace(_job=number)
    pool.on_timeout_set(task, TASK_OPTIONS["soft_time_limit"], TASK_OPTIONS["time_limit"])
    pool.on_timeout_cancel(task)


class TestATimeLimit:
    def test_of_a_task_that_is_done_is_removed(self, hub: Hub):
        """Failed: the worker grew until the limit of each message was over, for hours."""
        pool = SimpleNamespace(_on_soft_timeout=print, _on_hard_timeout=print)
        prefork: Any = AsynPool
        prefork._create_timelimit_handlers(pool, hub)
        for number in range(3):
            run_a_task(pool, number)

        remove_cancelled(hub.timer)

        assert len(hub.timer) == 0

    def test_of_a_running_task_stays(self, hub: Hub):
        called: list[str] = []
        hub.timer.call_after(-1, called.append, ("due",))
        hub.timer.call_after(-2, called.append, ("before",))
        hub.timer.call_after(3600, called.append, ("later",))
        hub.timer.call_after(-3, called.append, ("cancelled",)).cancel()

        remove_cancelled(hub.timer)
        hub.fire_timers()

        assert called == ["before", "due"]
        assert len(hub.timer) == 1


class TestTheStep:
    def test_repeats_the_removal_between_start_and_stop(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.transports.celery_worker.TIMERS_SECONDS", -1.0)
        consumer = SimpleNamespace(timer=hub.timer)
        step = TimerStep(consumer)
        step.start(consumer)
        for _ in range(2):
            hub.timer.call_after(3600, print).cancel()
            hub.fire_timers(max_timers=1)
            assert len(hub.timer) == 1

        step.stop(consumer)
        remove_cancelled(hub.timer)

        assert len(hub.timer) == 0

    def test_logs_a_failed_removal_once_and_ends_it(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """Failed: only kombu's log had "Error in timer", every 15 seconds."""

        def failing(timer: Timer) -> None:
            raise AttributeError("queue")

        monkeypatch.setattr("outbox.transports.celery_worker.TIMERS_SECONDS", -1.0)
        monkeypatch.setattr("outbox.transports.celery_worker.remove_cancelled", failing)
        consumer = SimpleNamespace(timer=hub.timer)
        step = TimerStep(consumer)
        step.start(consumer)

        for _ in range(2):
            hub.fire_timers(max_timers=1)

        [record] = caplog.records
        assert (record.name, record.levelname) == ("outbox.worker", "WARNING")
        assert "AttributeError: queue" in record.getMessage()
        assert "Restart the worker" in record.getMessage()
        step.stop(consumer)

    def test_leaves_the_timer_of_a_pool_without_event_loop_alone(self):
        consumer = SimpleNamespace(timer=object())
        step = TimerStep(consumer)

        step.start(consumer)
        step.stop(consumer)

    def test_leaves_the_greenlets_of_a_green_pool_alone(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: delayed tasks and AMQP heartbeats of workers with gevent were killed."""

        class GreenTimer(Timer):
            pass

        monkeypatch.setattr("outbox.transports.celery_worker.TIMERS_SECONDS", -1.0)
        timer = GreenTimer()
        timer.call_after(3600, print)
        consumer = SimpleNamespace(timer=timer)

        TimerStep(consumer).start(consumer)

        assert len(timer) == 1

    def test_is_a_part_of_the_workers_of_an_app_with_the_outbox(self):
        app = Celery("tests", set_as_current=False)
        install(app)

        assert TimerStep in app.steps["consumer"]
