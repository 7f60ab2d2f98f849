"""The loop of a source: nothing is acknowledged before its commit, and nothing is given away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Event, Heartbeat, SourceState
from outbox.settlements.recording import ReportsNotRecorded
from outbox.sources import SourceUnavailable, receiver, state
from outbox.sources.base import ReceivedMessage
from outbox.sources.receiver import Receiver
from outbox.sources.storing import Retry, store

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

    def hold(self, messages: Sequence[ReceivedMessage]) -> None:
        self.calls.append(f"hold {len(messages)}")

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


@pytest.fixture
def fail(monkeypatch) -> Callable[..., None]:
    """Let the next attempts to store fail with an error."""
    failures: list[Exception] = []

    def fail_or_store(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return store(*args, **options)

    monkeypatch.setattr(receiver, "store", fail_or_store)
    return lambda error, times=1: failures.extend([error] * times)


@pytest.fixture
def notes(monkeypatch) -> list[tuple[str, Any]]:
    """Return the failures that are noted, each with the time since which the source fails."""
    found: list[tuple[str, Any]] = []
    note = state.note_failure

    def noted(source: str, failure: str, **options: Any) -> None:
        note(source, failure, **options)
        found.append((failure, SourceState.objects.get().failing_at))

    monkeypatch.setattr(state, "note_failure", noted)
    return found


class TestAReceiver:
    def test_acknowledges_what_is_stored(self, run):
        assert run() == ["receive", "acknowledge 2 of 2 stored", "receive", "close"]

    def test_releases_what_it_could_not_store_in_an_outage(self, run, monkeypatch):
        """Other processes may reach the database. A new source receives the messages again."""
        failures = [OperationalError("database is locked")]

        def fail_once(*args: Any, retry: Retry, **options: Any) -> Any:
            def action() -> Any:
                if failures:
                    raise failures.pop()
                return store(*args, **options)

            return retry(action)

        def wait(access: DatabaseAccess) -> bool:
            access._sleep(0)
            return True

        monkeypatch.setattr(receiver, "store", fail_once)
        monkeypatch.setattr(DatabaseAccess, "recover", wait)

        assert run() == [
            "receive",
            "release 2",
            "close",
            "receive",
            "acknowledge 2 of 2 stored",
            "receive",
            "close",
        ]

    @pytest.mark.parametrize(
        "error",
        [
            ReportsNotRecorded("Down."),
            ValueError("bug"),
            ImproperlyConfigured("CAPTURE"),
            OperationalError("database is locked"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_holds_what_it_cannot_store(self, run, fail, error):
        """Systems delete a message that is released too often."""
        fail(error, times=5)

        assert run() == [
            "receive",
            *["hold 2"] * 5,
            "acknowledge 2 of 2 stored",
            "receive",
            "close",
        ]

    def test_opens_the_source_again_if_it_cannot_hold_the_messages(self, run, fail, monkeypatch):
        def lose(source: QueueSource, messages: Sequence[ReceivedMessage]) -> None:
            raise SourceUnavailable("Cut off.")

        monkeypatch.setattr(QueueSource, "hold", lose)
        fail(ValueError("bug"))

        assert run()[:5] == [
            "receive",
            "release 2",
            "close",
            "receive",
            "acknowledge 2 of 2 stored",
        ]

    def test_runs_while_it_holds_messages_and_ends_when_it_is_stopped(
        self, run, fail, monkeypatch, settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "HEARTBEAT_SECONDS": 0.001}
        monkeypatch.setattr(receiver, "_FIRST_PAUSE", 3600)
        monkeypatch.setattr(receiver, "_LONGEST_PAUSE", 3600)
        monkeypatch.setattr(receiver, "_WAIT", 0.01)
        seen = set()

        def look(source: QueueSource, messages: Sequence[ReceivedMessage]) -> None:
            seen.add(Heartbeat.objects.get(kind=Heartbeat.Kind.RECEIVER).seen_at)
            if len(seen) == 3:
                type(source).stop()

        monkeypatch.setattr(QueueSource, "hold", look)
        fail(ValueError("bug"))

        assert run() == ["receive", "release 2", "close"]

    def test_opens_an_unavailable_source_again_and_stores_the_reason(self, run, notes):
        QueueSource.error = SourceUnavailable("The broker is down.")

        assert run()[:2] == ["close", "receive"]
        assert [text for text, _since in notes] == ["The broker is down.", ""]
        assert SourceState.objects.get().failing_at is None

    def test_fails_until_it_has_stored_something(self, run, notes, fail):
        """That the system answers is no proof: each attempt to store may fail."""
        fail(ReportsNotRecorded("Down."), times=2)

        run()

        (first, since), (second, still_since), (last, end) = notes
        assert first == second == "2 messages cannot be stored, and are kept. Down."
        assert last == ""
        assert since == still_since is not None
        assert end is None

    def test_does_not_end_the_failure_of_another_process_that_holds_the_messages(
        self, run, settings, monkeypatch
    ):
        settings.OUTBOX = {**settings.OUTBOX, "HEARTBEAT_SECONDS": 0}
        failing = SourceState.objects.exclude(failing_at=None)
        found, stop = [], QueueSource.stop

        def look() -> None:
            """Called for each empty batch."""
            found.append(failing.exists())
            if len(found) == 1:
                state.note_failure("billing", "Another process fails.")
            elif len(found) == 3:
                QueueSource.queue = [message(3)]
            elif len(found) == 4:
                stop()

        monkeypatch.setattr(QueueSource, "stop", look)

        run()

        assert found == [False, True, True, False]

    def test_ends_the_failure_of_a_process_that_is_gone(self, run):
        """The queue is empty. This process has not failed itself."""
        state.note_failure("billing", "The broker is down.")
        QueueSource.queue = []

        run()

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

    def test_asks_less_often_for_a_lag_that_takes_long(self, run, monkeypatch):
        """Failed: it took longer than a heartbeat, and was asked for before each batch."""
        now, stop, asked, batches = 1000.0, QueueSource.stop, 0, 0

        def lag(_source: QueueSource) -> int:
            nonlocal now, asked
            now, asked = now + 15, asked + 1
            return 7

        def wait() -> None:
            """Called for each empty batch."""
            nonlocal now, batches
            now, batches = now + 1, batches + 1
            if batches == 300:
                stop()

        monkeypatch.setattr(receiver, "time", SimpleNamespace(monotonic=lambda: now))
        monkeypatch.setattr(QueueSource, "lag", lag)
        monkeypatch.setattr(QueueSource, "stop", wait)
        QueueSource.queue = []

        run()

        assert asked == 3  # 45 s of 345 s
        assert SourceState.objects.get().lag == 7

    def test_receives_although_its_connection_ends_while_it_asks_for_the_lag(
        self, run, monkeypatch
    ):
        """Failed: it asked again after each opening, and received nothing."""
        now, stop, asked = 1000.0, QueueSource.stop, 0

        def lag(source: QueueSource) -> int:
            nonlocal now, asked
            now, asked = now + 40, asked + 1
            type(source).error = SourceUnavailable("The broker has closed the connection.")
            if asked == 5:
                stop()
            return 7

        monkeypatch.setattr(receiver, "time", SimpleNamespace(monotonic=lambda: now))
        monkeypatch.setattr(QueueSource, "lag", lag)

        assert run() == ["close", "receive", "acknowledge 2 of 2 stored", "receive", "close"]
