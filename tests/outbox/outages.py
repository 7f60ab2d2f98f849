"""Drivers and fixtures of the tests of outages. `conftest.py` imports the fixtures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from django.db.models import F

from outbox import DomainEvent
from outbox.deliveries import transient_errors
from outbox.models import Delivery
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.link import Link
from tests.outbox.drive import run_pass

_GONE = "SELECT pg_terminate_backend(%s, 10000)"  # ms: it waits until the backend is gone


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """The network link of this thread to the database. Other threads have separate links."""
    settings = connection.settings_dict
    with Link((settings["HOST"], int(settings["PORT"]))) as link:
        connection.close()
        linked = {**settings, "HOST": "127.0.0.1", "PORT": link.port}
        monkeypatch.setattr(connections["default"], "settings_dict", linked)
        yield link
        link.mend()
        connection.close()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker check often whether it can reach the database again."""
    monkeypatch.setattr(transient_errors, "_LONGEST_WAIT", 0.1)


@pytest.fixture
def no_health_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a project whose settings do not ask for CONN_HEALTH_CHECKS."""
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", False)
    connection.close()
    yield
    connection.close()


def cut_connection() -> None:
    """End this thread's connection to PostgreSQL from another one."""
    connection.ensure_connection()
    parameters = connection.get_connection_params()
    names = {"host", "port", "user", "password", "dbname"} & parameters.keys()
    wanted = {name: parameters[name] for name in names}
    with psycopg.connect(**wanted) as other:
        other.execute(_GONE, [connection.connection.info.backend_pid])


def new_message(number: int = 1) -> Message:
    """Emit events, and return one message with all their deliveries."""
    outbox = Outbox()
    for _ in range(number):
        outbox.given("tests.Counted", order_id=uuid4())
    messages = run_pass()
    pairs = tuple(pair for one in messages for pair in one.pairs)
    return replace(messages[0], pairs=pairs)


def expire_leases() -> None:
    """Let the leases expire, and run a pass of a relay that can reach the database."""
    Delivery.objects.filter(state="sent").update(due_at=F("due_at") - timedelta(hours=1))
    run_pass()


class Outage:
    """Cuts the link when called, and restores it after another host has run `meanwhile`."""

    def __init__(self, link: Link, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.link = link
        self.meanwhile = meanwhile
        self.waited = threading.Event()
        self.errors: list[BaseException] = []

    def __call__(self) -> None:
        self.link.cut()
        threading.Thread(target=self._restore_later, daemon=True).start()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set `waited` when the worker waits for the database."""
        why_unreachable: Any = transient_errors.why_unreachable

        def note(using: str) -> Exception | None:
            error: Exception | None = why_unreachable(using)
            if error:
                self.waited.set()
            return error

        monkeypatch.setattr(transient_errors, "why_unreachable", note)

    def _restore_later(self) -> None:
        try:
            assert self.waited.wait(60), "the worker does not wait for the database"
            self.meanwhile()
        except BaseException as error:
            self.errors.append(error)
        finally:
            connections.close_all()
            self.link.mend()


@pytest.fixture
def outage(link: Link, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    outage = Outage(link)
    outage.install(monkeypatch)
    yield outage
    assert outage.errors == []


class LostAnswer:
    """Loses the response to this thread's first COMMIT after `then` is set, and calls `then`."""

    def __init__(self) -> None:
        self.then: Callable[[], object] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = type(connections["default"])
        commit: Any = backend._commit  # type: ignore[attr-defined]  # not in the stubs
        mine = threading.current_thread()

        def commit_and_lose(connection: Any) -> None:
            commit(connection)
            then = self.then
            if then and threading.current_thread() is mine:
                self.then = None
                then()
                raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(backend, "_commit", commit_and_lose)


@pytest.fixture
def lost_answer(monkeypatch: pytest.MonkeyPatch) -> LostAnswer:
    lost = LostAnswer()
    lost.install(monkeypatch)
    return lost
