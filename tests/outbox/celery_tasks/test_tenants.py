"""A task, and all that follows from it, have the tenant of the code that called it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Retry
from celery.signals import task_success
from django.db import connection, transaction
from pytest_django import Settings

from outbox.celery import OutboxTask
from outbox.context import current_correlation_id
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


@pytest.fixture
def message(task: Any, sender: Outbox, broker: Broker) -> Any:
    """The message of a call of `task` by a tenant, without its event."""
    with hooks.restore("acme"), transaction.atomic():
        task.delay()
    sender.deliver_all()
    [found] = broker.received(str(task.app.conf.task_default_queue))
    forget_events()
    return found


def run(task: Any, message: Any, **request: Any) -> Any:
    """Run it by Celery's tracer, as a worker that has another tenant; return its end."""
    given = {"id": "t1", "headers": message.headers, "delivery_info": {}, **request}
    with hooks.restore("of the worker"):
        end = build_tracer(task.name, task, app=task.app)("t1", [], {}, given)
        assert hooks.capture() == "of the worker"
    return end


class TestATaskThatFollows:
    @pytest.fixture
    def following(self, celery: Celery, sender: Outbox) -> Any:
        @celery.task(base=OutboxTask, shared=False, name="parcels.follow")
        def follow(*_given: Any) -> None: ...

        return follow

    def test_after_a_success_has_the_tenant_of_the_one_before(
        self, task: Any, following: Any, message: Any
    ):
        """Failed: it had the tenant of the worker."""
        run(task, message, callbacks=[following.s()])

        assert tenants_and_tasks() == [("acme", "parcels.follow")]

    def test_in_a_chain_has_it_too(
        self, task: Any, following: Any, message: Any, broker: Broker, sender: Outbox
    ):
        run(task, message, chain=[following.si(), task.si()])
        assert tenants_and_tasks() == [("acme", "parcels.see")]
        sender.deliver_all()
        [second] = broker.received(str(task.app.conf.task_default_queue))
        forget_events()

        _args, _kwargs, embedded = second.payload
        run(task, second, chain=embedded["chain"])

        assert tenants_and_tasks() == [("acme", "parcels.follow")]

    @pytest.fixture
    def report(self, celery: Celery, sender: Outbox) -> Any:
        @celery.task(base=OutboxTask, shared=False, name="parcels.report")
        def report(task_id: str) -> None: ...

        return report

    def test_after_a_failure_has_it_too(self, celery: Celery, message: Any, report: Any):
        @celery.task(base=OutboxTask, shared=False, name="parcels.fail")
        def fail() -> None:
            raise LookupError

        run(fail, message, errbacks=[report.s()])

        assert tenants_and_tasks() == [("acme", "parcels.report")]

    def test_has_it_if_it_is_one_of_several(self, task: Any, following: Any, message: Any):
        run(task, message, callbacks=[following.si(), task.si()])

        assert tenants_and_tasks() == [("acme", "parcels.follow"), ("acme", "parcels.see")]

    def test_has_it_if_the_tenant_of_the_failed_one_could_not_be_restored(
        self, task: Any, report: Any, message: Any, settings: Settings
    ):
        """Failed: it had the tenant of the worker."""
        restore_by(settings, f"{hooks.__name__}.failing")

        end = run(task, message, errbacks=[report.s()])

        assert isinstance(end.info.retval, LookupError)
        assert tenants_and_tasks() == [("acme", "parcels.report")]

    def test_has_it_if_its_tenant_is_in_a_transaction(
        self, task: Any, following: Any, message: Any, settings: Settings
    ):
        """Failed: the transaction lasted until Celery had ended the task, and was rolled back."""
        restore_by(settings, f"{__name__}.in_transaction")

        are_open: list[bool] = []

        def note(**_kwargs: Any) -> None:
            are_open.append(connection.in_atomic_block)

        with receiving(task_success, note):
            run(task, message, callbacks=[following.s()])

        assert are_open == [False]
        assert tenants_and_tasks() == [("acme", "parcels.follow")]

    def test_is_no_exception_to_a_tenant_that_other_code_sets(
        self, celery: Celery, following: Any, message: Any
    ):
        class Observed(OutboxTask):
            abstract = True

            def on_success(self, *_given: Any) -> None:
                with hooks.restore("bolt"):
                    following.delay()

        @celery.task(base=Observed, shared=False, name="parcels.watched")
        def watched() -> None: ...

        run(watched, message)

        assert tenants_and_tasks() == [("bolt", "parcels.follow")]

    def test_has_none_if_the_first_one_has_none(self, task: Any, following: Any):
        headers = {"outbox_causation_id": str(uuid4()), "outbox_correlation_id": str(uuid4())}
        run(task, SimpleNamespace(headers=headers), callbacks=[following.s()])

        assert tenants_and_tasks() == [(None, "parcels.follow")]

    def test_needs_no_tenant_to_be_restored(
        self, task: Any, following: Any, message: Any, settings: Settings
    ):
        restore_by(settings, f"{__name__}.restored_once")

        run(task, message, callbacks=[following.s()])

        assert tenants_and_tasks() == [("acme", "parcels.follow")]


class TestARetry:
    def test_needs_no_tenant_to_be_restored_again(
        self, celery: Celery, message: Any, settings: Settings, broker: Broker
    ):
        """Failed: the error of RESTORE replaced it, so the task had failed and was retried."""
        restore_by(settings, f"{__name__}.restored_once")

        @celery.task(base=OutboxTask, bind=True, shared=False, name="parcels.again")
        def again(self: Any) -> None:
            raise self.retry(countdown=1)

        end = run(again, message)

        assert isinstance(end.info.retval, Retry)


class TestTheContextOfATask:
    def test_ends_with_it_if_restore_fails_at_its_end(
        self, task: Any, message: Any, settings: Settings
    ):
        """Failed: later tasks of the thread had its cause."""
        restore_by(settings, f"{hooks.__name__}.failing_at_its_end")
        before = current_correlation_id()

        run(task, message)

        assert current_correlation_id() == before


def restore_by(settings: Settings, path: str) -> None:
    given = {**hooks.NAMES, "RESTORE": path}
    settings.OUTBOX = {**settings.OUTBOX, "TENANT": given}
    tries.clear()


#: Tenants that `restored_once` was called with.
tries: list[str | None] = []


def restored_once(tenant: str | None) -> Any:
    tries.append(tenant)
    if len(tries) > 1:
        raise LookupError
    return hooks.restore(tenant)


@contextmanager
def in_transaction(tenant: str | None) -> Iterator[None]:
    with transaction.atomic(), hooks.restore(tenant):
        yield


@contextmanager
def receiving(signal: Any, receiver: Any) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def forget_events() -> None:
    Delivery.objects.all().delete()
    Event.objects.all().delete()


def tenants_and_tasks() -> list[tuple[str | None, str]]:
    rows = Event.objects.order_by("seq").values_list("tenant", "payload__task")
    return [(tenant, task) for tenant, task in rows]
