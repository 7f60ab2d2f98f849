"""Stored tasks follow the transaction of their caller: views, savepoints, another database.

The database of the outbox is a second SQLite file where a router says so.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.contrib.auth.models import Group
from django.db import connection, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from pytest_django import Settings

from outbox.celery import OutboxTask
from outbox.guards import RuleBroken
from outbox.models import DelayedEvent, Delivery, Event
from outbox.testing import Outbox
from tests.outbox.celery_tasks import conftest as of_celery
from tests.outbox.tasks_backend import conftest as of_django

pytestmark = pytest.mark.django_db(transaction=True)

broker = of_celery.broker
celery = of_celery.celery
configure = of_django.configure
sender = of_celery.sender

#: Stores a task for the group with this name.
Store = Callable[[str], object]
#: What the views below call: the function of the running test.
stores: list[Store] = []


@pytest.fixture(params=["django.tasks", "celery"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def task(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A function that stores a task, also for the views below."""
    made = (_of_celery if kind == "celery" else _of_django)(request)
    monkeypatch.setattr(sys.modules[__name__], "stores", [made])
    return made


def _of_celery(request: pytest.FixtureRequest) -> Store:
    app: Celery = request.getfixturevalue("celery")
    request.getfixturevalue("sender")

    @app.task(base=OutboxTask, shared=False, name="groups.greet")
    def greet(name: str) -> None: ...

    return greet.delay


def _of_django(request: pytest.FixtureRequest) -> Store:
    from tests.outbox.tasks_backend import jobs  # it is skipped without django.tasks

    request.getfixturevalue("configure")()
    enqueue: Store = jobs.note.enqueue
    return enqueue


def stored_for(using: str = "default") -> list[str]:
    """Return the names of the groups for which tasks are stored."""
    assert not DelayedEvent.objects.using(using).exists()
    rows = Event.objects.using(using).order_by("seq")
    return [row.payload["args"][0] for row in rows]


def create_group(request: HttpRequest, name: str) -> HttpResponse:
    Group.objects.create(name=name)
    stores[0](name)
    if "fail" in request.GET:
        raise ZeroDivisionError
    return HttpResponse(name)


def create_groups(request: HttpRequest) -> HttpResponse:
    """Create one group, and fail to create another one in a savepoint."""
    create_group(request, "kept")
    try:
        with transaction.atomic():
            stores[0]("undone")
            Group.objects.create(name="kept")
    except Exception:
        return HttpResponse("one")
    raise AssertionError("The second group of this name was created.")


urlpatterns = [path("groups", create_groups), path("group/<name>", create_group)]


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the views, each of which has a transaction."""
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    return Client(raise_request_exception=False)


class TestATaskOfAViewWithAtomicRequests:
    def test_is_stored_once_if_the_view_succeeds(self, task: Store, client: Client):
        assert client.get("/group/a").status_code == 200

        assert stored_for() == ["a"]
        assert Group.objects.filter(name="a").exists()

    def test_is_not_stored_if_the_view_raises(self, task: Store, client: Client):
        assert client.get("/group/a?fail").status_code == 500

        assert stored_for() == []
        assert not Group.objects.filter(name="a").exists()

    def test_is_not_stored_if_its_savepoint_is_rolled_back(self, task: Store, client: Client):
        assert client.get("/groups").content == b"one"

        assert stored_for() == ["kept"]


class TestATaskInASavepoint:
    def test_is_stored_if_a_later_savepoint_is_rolled_back(self, task: Store):
        with transaction.atomic():
            with transaction.atomic():
                task("a")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                task("b")
                raise ZeroDivisionError
            with transaction.atomic():
                task("c")

        assert stored_for() == ["a", "c"]

    def test_is_not_stored_if_an_outer_one_is_rolled_back(self, task: Store):
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                with transaction.atomic():
                    task("a")
                raise ZeroDivisionError
            task("b")

        assert stored_for() == ["b"]

    def test_is_not_stored_after_a_rollback_that_raises_nothing(self, task: Store):
        with transaction.atomic():
            task("a")
            transaction.set_rollback(True)

        assert stored_for() == []


class OutboxElsewhere:
    """Moves the app `outbox` to the database `events`."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "events" if model._meta.app_label == "outbox" else None

    db_for_write = db_for_read


@pytest.fixture
def events(task: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The alias of another database, which holds the outbox from now on."""

    def ensure_connection(self: Any) -> None:  # Django's own, without what its tests put around
        if self.connection is None:
            with self.wrap_database_errors:
                self.connect()

    name = str(tmp_path / "events.sqlite3")
    connection.ensure_connection()
    with sqlite3.connect(name) as target:
        connection.connection.backup(target)
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", ensure_connection)
    monkeypatch.setitem(connections.settings, "events", {**connection.settings_dict, "NAME": name})
    monkeypatch.setattr(router, "routers", [OutboxElsewhere()])
    yield "events"
    connections["events"].close()
    del connections["events"]


@pytest.mark.sqlite
class TestATaskWhoseOutboxIsInAnotherDatabase:
    def test_follows_a_transaction_of_that_database(self, task: Store, events: str):
        with transaction.atomic(using=events):
            task("a")
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=events):
            task("b")
            raise ZeroDivisionError

        assert stored_for(events) == ["a"]
        assert stored_for("default") == []

    def test_is_stored_at_once_without_a_transaction(self, task: Store, events: str):
        task("a")

        assert stored_for(events) == ["a"]
        assert stored_for("default") == []

    def test_is_refused_in_a_transaction_of_the_other_one(self, task: Store, events: str):
        """The two do not commit together. The guards find that while the project is developed."""
        with pytest.raises(RuleBroken, match="do not commit together"), transaction.atomic():
            task("a")

        assert stored_for(events) == []

    def test_is_delivered(self, task: Store, events: str):
        task("a")

        Outbox(using=events).deliver_all()

        [delivery] = Delivery.objects.using(events)
        assert delivery.state == Delivery.State.DONE
