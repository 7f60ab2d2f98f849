"""A task runs within the tenant of the code that called it."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from django.db import transaction
from pytest_django import Settings

from outbox.celery import OutboxTask
from outbox.models import Event
from outbox.testing import Outbox
from tests.outbox.tenants import hooks

from .conftest import Broker


@pytest.fixture(autouse=True)
def _tenants(settings: Settings) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "TENANT": hooks.NAMES}


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def task(celery: Celery, sender: Outbox, seen: list[Any]) -> Any:
    @celery.task(base=OutboxTask, bind=True, shared=False, name="parcels.see")
    def see(self: Any) -> None:
        seen.append((hooks.capture(), self.request.id))

    return see


class TestATaskOfATenant:
    def test_runs_within_it_where_the_worker_runs_it(
        self, task: Any, sender: Outbox, broker: Broker, seen: list[Any]
    ):
        """Celery's own tracer runs it, with the headers that were sent."""
        with hooks.restore("acme"), transaction.atomic():
            called = task.delay()
        assert Event.objects.get().tenant == "acme"
        sender.deliver_all()
        [message] = broker.received(str(task.app.conf.task_default_queue))

        with hooks.restore("of the worker"):
            task.apply(task_id=called.id, headers=message.headers)

        assert seen == [("acme", called.id)]

    def test_keeps_the_tenant_of_its_caller_if_it_is_called_directly(
        self, task: Any, seen: list[Any]
    ):
        with hooks.restore("acme"):
            task()
            task.apply(task_id="t1")

        assert [tenant for tenant, _id in seen] == ["acme", "acme"]
        assert seen[1][1] == "t1"
