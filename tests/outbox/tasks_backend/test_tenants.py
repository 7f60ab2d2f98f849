"""Receivers of a task's signals run within the tenant of the code that enqueued it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox.models import Delivery, Event
from outbox.tasks_backend import finishing
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

    def test_is_sent_for_the_tasks_of_other_tenants_if_one_cannot_be_restored(
        self,
        configure: Configure,
        seen: list[tuple[str, str | None]],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Failed: those after it in a message got none, once and for ever."""
        outbox = configure()
        send = finishing._send

        def send_without_bolt(delivery: Delivery) -> None:
            if delivery.event.tenant == "bolt":
                raise LookupError
            send(delivery)

        monkeypatch.setattr(finishing, "_send", send_without_bolt)
        for tenant in ("bolt", "acme"):
            with hooks.restore(tenant), transaction.atomic():
                jobs.note.enqueue("first")

        outbox.deliver_all()

        assert seen.count(("finished", "acme")) == 1
        assert "task_finished is not sent of delivery" in caplog.text
