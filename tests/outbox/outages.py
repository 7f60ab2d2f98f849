"""Drivers and fixtures of the tests of outages. `conftest.py` has the fixtures for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection, connections
from django.db.models import F

from outbox import DomainEvent
from outbox.deliveries import transient_errors
from outbox.models import Attempt, Delivery
from outbox.relay.passes import Message, relay_pass
from outbox.testing import Outbox
from outbox.worker.delivery import deliver
from outbox.worker.outcome import Result
from tests.link import Link


class Counted(DomainEvent, key="order_id"):
    order_id: UUID


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """The way from this thread to the database; other threads have ways of their own."""
    settings = connection.settings_dict
    with Link((settings["HOST"], int(settings["PORT"]))) as link:
        connection.close()
        through_it = {**settings, "HOST": "127.0.0.1", "PORT": link.port}
        monkeypatch.setattr(connections["default"], "settings_dict", through_it)
        yield link
        link.mend()
        connection.close()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks often whether the database can be reached again."""
    monkeypatch.setattr(transient_errors, "_LONGEST_WAIT", 0.1)


def given(number: int = 1) -> Message:
    """Emit events, and return a message with all their deliveries."""
    outbox = Outbox()
    for _ in range(number):
        outbox.given("tests.Counted", order_id=uuid4())
    messages = relay_pass(publish=lambda message: None).messages
    return replace(messages[0], pairs=tuple(pair for one in messages for pair in one.pairs))


def work(message: Message) -> list[Result]:
    return deliver(handler_name=message.handler, pairs=message.pairs, worker="w1")


def ends() -> list[tuple[str, int]]:
    return list(Delivery.objects.order_by("id").values_list("state", "attempts"))


def outcomes() -> list[str]:
    return list(Attempt.objects.order_by("id").values_list("outcome", flat=True))


def let_leases_pass() -> None:
    """Let the leases pass, and a relay look at them that can reach the database."""
    Delivery.objects.filter(state="sent").update(due_at=F("due_at") - timedelta(hours=1))
    relay_pass(publish=lambda message: None)


class Outage:
    """Cuts the link when it is called, and mends it after `meanwhile` was done by another host."""

    def __init__(self, link: Link, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.link = link
        self.meanwhile = meanwhile
        self.waited = threading.Event()
        self.errors: list[BaseException] = []

    def __call__(self) -> None:
        self.link.cut()
        threading.Thread(target=self._go_on, daemon=True).start()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Notice when the worker waits for the database."""
        look: Any = transient_errors._why_unreachable

        def note(using: str) -> Exception | None:
            error: Exception | None = look(using)
            if error:
                self.waited.set()
            return error

        monkeypatch.setattr(transient_errors, "_why_unreachable", note)

    def _go_on(self) -> None:
        try:
            assert self.waited.wait(30), "the worker does not wait for the database"
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
    """Loses the answer to the first COMMIT of this thread, once `then` is set, and calls that."""

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
