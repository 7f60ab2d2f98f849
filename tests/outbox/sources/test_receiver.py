"""The loop of a source: nothing is acknowledged before its commit, and a failure closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connections

from outbox.models import Event, SourceState
from outbox.sources import SourceUnavailable, receiver, state
from outbox.sources.base import ReceivedMessage
from outbox.sources.receiver import Receiver
from outbox.sources.storing import store

from .messages import NoSource, configure, declare_invoice_paid, message


class QueueSource(NoSource):
    """A queue in memory. `calls` has the calls of all instances, in their order."""

    queue: list[ReceivedMessage] = []
    calls: list[str] = []
    stop: Callable[[], object] = print
    error: Exception | None = None

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        cls = type(self)
        if cls.error is not None:
            error, cls.error = cls.error, None
            raise error
        cls.calls.append("receive")
        found, cls.queue = cls.queue, []
        if not found:
            cls.stop()
        return found

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        self.calls.append(f"acknowledge {len(messages)} of {Event.objects.count()} stored")

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        self.calls.append(f"release {len(messages)}")
        type(self).queue = list(messages)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def run(own_registry, settings, monkeypatch) -> Callable[[], list[str]]:
    """Run a receiver until its queue is empty; return the calls of the source."""
    declare_invoice_paid()
    monkeypatch.setattr(receiver, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(connections, "close_all", lambda: None)  # the test's own
    stopping = threading.Event()
    monkeypatch.setattr(QueueSource, "queue", [message(1), message(2)])
    monkeypatch.setattr(QueueSource, "calls", [])
    monkeypatch.setattr(QueueSource, "stop", stopping.set)
    monkeypatch.setattr(QueueSource, "error", None)
    config = configure(settings, BACKEND=f"{__name__}.QueueSource")

    def run() -> list[str]:
        Receiver(config, stopping=stopping).run()
        return QueueSource.calls

    return run


class TestAReceiver:
    def test_acknowledges_what_is_stored(self, run):
        assert run() == ["receive", "acknowledge 2 of 2 stored", "receive", "close"]

    @pytest.mark.parametrize("error", [OperationalError("database is locked"), ValueError("bug")])
    def test_releases_what_it_could_not_store(self, run, monkeypatch, error):
        """The failed source is closed, and a new one receives the messages again."""
        failures = [error]

        def fail_once(*args: Any, **options: Any) -> Any:
            if failures:
                raise failures.pop()
            return store(*args, **options)

        monkeypatch.setattr(receiver, "store", fail_once)

        assert run() == [
            "receive",
            "release 2",
            "close",
            "receive",
            "acknowledge 2 of 2 stored",
            "receive",
            "close",
        ]

    def test_opens_an_unavailable_source_again_and_stores_the_reason(self, run, monkeypatch):
        notes: list[str] = []
        note = state.note_failure

        def noted(source: str, failure: str, **options: Any) -> None:
            notes.append(failure)
            note(source, failure, **options)

        monkeypatch.setattr(state, "note_failure", noted)
        QueueSource.error = SourceUnavailable("The broker is down.")

        assert run()[:2] == ["close", "receive"]
        assert notes == ["", "The broker is down.", ""]
        assert SourceState.objects.get().failing_at is None

    def test_continues_if_the_acknowledgement_fails(self, run, monkeypatch):
        """The messages come again, and are dropped as duplicates."""
        acknowledge, failures = QueueSource.acknowledge, [SourceUnavailable("Cut off.")]

        def fail_once(source: QueueSource, messages: Sequence[ReceivedMessage]) -> None:
            if failures:
                type(source).queue = list(messages)
                raise failures.pop()
            acknowledge(source, messages)

        monkeypatch.setattr(QueueSource, "acknowledge", fail_once)

        assert "acknowledge 2 of 2 stored" in run()
        assert Event.objects.count() == 2
