"""Messages that are acknowledged before they are done. For a real broker, see tests/chaos."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery.worker import state

from outbox.transports import celery_worker
from outbox.transports.celery_broker import TASK
from outbox.transports.celery_worker import AcknowledgeStep


class Request:
    """A request of Celery, with the attributes that the step uses."""

    def __init__(self, name: str = TASK) -> None:
        self.name = name
        self.acknowledged = False
        self.times = 0

    def acknowledge(self) -> None:
        self.acknowledged = True
        self.times += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(celery_worker, "time", clock)
    return clock


@pytest.fixture
def step() -> AcknowledgeStep:
    return AcknowledgeStep(SimpleNamespace())


def hold(monkeypatch: pytest.MonkeyPatch, *requests: Request) -> None:
    monkeypatch.setattr(state, "reserved_requests", set(requests))


class TestARunningMessage:
    def test_is_acknowledged_once_when_it_is_old(self, clock, step, monkeypatch):
        request = Request()
        hold(monkeypatch, request)

        for clock.now in (0.0, 150.0, 299.0):
            step.acknowledge_old()
        assert request.times == 0

        for clock.now in (300.0, 600.0):
            step.acknowledge_old()
        assert request.times == 1

    def test_is_not_acknowledged_early_if_it_is_not_from_the_outbox(self, clock, step, monkeypatch):
        request = Request("reports.monthly")
        hold(monkeypatch, request)

        for clock.now in (0.0, 3000.0):
            step.acknowledge_old()

        assert request.times == 0
