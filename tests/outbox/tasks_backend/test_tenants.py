"""Receivers of a task's signals run within the tenant of the code that enqueued it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox.models import Event
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure
from tests.outbox.tasks_backend.jobs import api
from tests.outbox.tenants import hooks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _tenants(settings: Settings) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "TENANT": hooks.NAMES}


@pytest.fixture
def seen() -> Iterator[list[tuple[str, str | None]]]:
    """The tenants that receivers have seen. The receiver of the end enqueues the next task."""
    found: list[tuple[str, str | None]] = []

    def started(**_kwargs: Any) -> None:
        found.append(("started", hooks.capture()))

    def finished(task_result: Any, **_kwargs: Any) -> None:
        found.append(("finished", hooks.capture()))
        if task_result.task.module_path != jobs.note.module_path:
            jobs.note.enqueue("next")

    api.task_started.connect(started)
    api.task_finished.connect(finished)
    yield found
    api.task_started.disconnect(started)
    api.task_finished.disconnect(finished)


class TestTheReceiverOfASignal:
    @pytest.mark.parametrize("tenant", ["acme", None])
    @pytest.mark.parametrize("task", [jobs.add, jobs.refuse], ids=["done", "dead"])
    def test_has_the_tenant_of_the_task(
        self,
        configure: Configure,
        seen: list[tuple[str, str | None]],
        task: Any,
        tenant: str | None,
    ):
        """Failed: the end of a task was announced within the tenant of the worker."""
        outbox = configure()
        with hooks.restore(tenant), transaction.atomic():
            task.enqueue(*([1, 2] if task is jobs.add else []))

        with hooks.restore("of the worker"):
            outbox.deliver_all(raise_errors=False)

        assert seen == [("started", tenant), ("finished", tenant)] * 2
        assert list(Event.objects.values_list("tenant", flat=True)) == [tenant, tenant]
