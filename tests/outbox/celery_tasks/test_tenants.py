"""A task, and all that follows from it, have the tenant of the code that called it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from django.db import transaction
from pytest_django import Settings

from outbox import DomainEvent, emit
from outbox.celery import OutboxTask
from outbox.models import Delivery, Event
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


class Ended(DomainEvent, key="task"):
    task: str


class Observed(OutboxTask):
    """A base that emits when Celery has ended the task."""

    abstract = True

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        with transaction.atomic():
            emit(Ended(task=f"{self.name} succeeded"))

    def on_failure(self, *_given: Any) -> None:
        with transaction.atomic():
            emit(Ended(task=f"{self.name} failed"))


class TestATaskThatFollows:
    @pytest.fixture
    def following(self, celery: Celery, sender: Outbox) -> Any:
        @celery.task(base=OutboxTask, shared=False, name="parcels.follow")
        def follow(*_given: Any) -> None: ...

        return follow

    @pytest.fixture
    def message(self, task: Any, sender: Outbox, broker: Broker) -> Any:
        """The message of a call of `task` by a tenant, without its event."""
        with hooks.restore("acme"), transaction.atomic():
            task.delay()
        sender.deliver_all()
        [found] = broker.received(str(task.app.conf.task_default_queue))
        forget_events()
        return found

    def run(self, task: Any, message: Any, **request: Any) -> Any:
        """Run it by Celery's tracer, as a worker that has another tenant; return its end."""
        given = {"id": "t1", "headers": message.headers, "delivery_info": {}, **request}
        with hooks.restore("of the worker"):
            end = build_tracer(task.name, task, app=task.app)("t1", [], {}, given)
            assert hooks.capture() == "of the worker"
        return end

    def test_after_a_success_has_the_tenant_of_the_one_before(
        self, task: Any, following: Any, message: Any
    ):
        """Failed: it had the tenant of the worker."""
        self.run(task, message, callbacks=[following.s()])

        assert tenants_and_tasks() == [("acme", "parcels.follow")]

    def test_in_a_chain_has_it_too(
        self, task: Any, following: Any, message: Any, broker: Broker, sender: Outbox
    ):
        self.run(task, message, chain=[following.si(), task.si()])
        assert tenants_and_tasks() == [("acme", "parcels.see")]
        sender.deliver_all()
        [second] = broker.received(str(task.app.conf.task_default_queue))
        forget_events()

        _args, _kwargs, embedded = second.payload
        self.run(task, second, chain=embedded["chain"])

        assert tenants_and_tasks() == [("acme", "parcels.follow")]

    def test_after_a_failure_has_it_too(self, celery: Celery, message: Any):
        @celery.task(base=OutboxTask, shared=False, name="parcels.report")
        def report(task_id: str) -> None: ...

        @celery.task(base=OutboxTask, shared=False, name="parcels.fail")
        def fail() -> None:
            raise LookupError

        self.run(fail, message, errbacks=[report.s()])

        assert tenants_and_tasks() == [("acme", "parcels.report")]

    @pytest.mark.parametrize("end", ["succeeded", "failed"])
    def test_is_no_exception_in_the_methods_that_celery_calls(
        self, celery: Celery, message: Any, end: str
    ):
        @celery.task(base=Observed, shared=False, name="parcels.watched")
        def watched() -> None:
            if end == "failed":
                raise LookupError

        self.run(watched, message)

        assert list(Event.objects.values_list("tenant", "key")) == [
            ("acme", f"parcels.watched {end}")
        ]

    def test_has_none_if_the_first_one_has_none(self, task: Any, following: Any):
        headers = {"outbox_causation_id": str(uuid4()), "outbox_correlation_id": str(uuid4())}
        self.run(task, SimpleNamespace(headers=headers), callbacks=[following.s()])

        assert tenants_and_tasks() == [(None, "parcels.follow")]

    def test_is_not_sent_if_its_tenant_cannot_be_restored_again(
        self, task: Any, following: Any, message: Any, settings: Settings
    ):
        tries.clear()
        given = {**hooks.NAMES, "RESTORE": f"{__name__}.restored_once"}
        settings.OUTBOX = {**settings.OUTBOX, "TENANT": given}

        end = self.run(task, message, callbacks=[following.s()])

        assert isinstance(end.info.retval, LookupError)
        assert tries == ["acme", "acme"]
        assert not Event.objects.exists()


#: Tenants that `restored_once` was called with.
tries: list[str | None] = []


def restored_once(tenant: str | None) -> Any:
    tries.append(tenant)
    if len(tries) > 1:
        raise LookupError
    return hooks.restore(tenant)


def forget_events() -> None:
    Delivery.objects.all().delete()
    Event.objects.all().delete()


def tenants_and_tasks() -> list[tuple[str | None, str]]:
    rows = Event.objects.order_by("seq").values_list("tenant", "payload__task")
    return [(tenant, task) for tenant, task in rows]
