"""An operation without steps of its own stores heartbeats, so the doctor does not call it ended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from outbox import DomainEvent, Sensitive, operations, retention, subscribe
from outbox.models import Delivery, Event, Operation
from outbox.operations import progress
from outbox.privacy import redaction
from outbox.retention import pace
from outbox.testing import Outbox
from tests.outbox.drive import emit_parcels, run_pass, states

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


class Looks:
    """Looks for an unfinished operation before each step, and lets a long time pass after it."""

    def __init__(self) -> None:
        self.found: list[bool] = []

    def look(self, *_args: Any) -> None:
        self.found.append(operations.unfinished().exists())
        Operation.objects.update(seen_at=timezone.now() - 2 * operations.ABANDONED_AFTER)

    def before(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        """Look before each call of a function of a module."""
        function = getattr(module, name)

        def look_and_call(*args: Any, **options: Any) -> Any:
            self.look()
            return function(*args, **options)

        monkeypatch.setattr(module, name, look_and_call)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    monkeypatch.setattr(progress, "_BEAT_SECONDS", 0.0)
    return Looks()


class TestALongOperation:
    """Failed: it had one heartbeat, at its start."""

    def test_that_prunes_is_alive_after_each_batch(
        self, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ):
        emit_parcels(3)
        Outbox().deliver_all()
        looks.before(monkeypatch, retention, "prune_some")

        operations.prune(older_than=timedelta(0), batch=1, by="cli:ann")

        assert looks.found == [False] * 3
        assert not Event.objects.exists()

    def test_that_prunes_by_what_others_do_is_alive_after_each_batch(
        self, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(pace, "SMALLEST", 1)
        monkeypatch.setattr(pace, "LARGEST", 1)
        emit_parcels(3)
        Outbox().deliver_all()
        looks.before(monkeypatch, retention, "prune_some")

        operations.prune(older_than=timedelta(0), by="cli:ann")

        assert looks.found == [False] * 3

    def test_that_redacts_is_alive_after_each_slice(
        self, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(redaction, "_AT_ONCE", 1)
        keys = [event.key for event in emit_parcels(3)]
        looks.before(monkeypatch, redaction, "_redact_some")

        operations.redact(keys=keys, by="cli:ann", reason="a request")

        assert looks.found == [False] * 3

    def test_that_ends_a_handler_is_alive_after_each_step(
        self, looks: Looks, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(progress, "_SLICE", 1)

        @subscribe("parcels.ParcelSent", name="tests.invoice")
        def invoice() -> None: ...

        emit_parcels(3)
        run_pass()

        operations.end("tests.invoice", by="cli:ann", reason="removed", report=looks.look)

        assert looks.found[:3] == [False] * 3
        assert states() == ["discarded"] * 3


@pytest.mark.usefixtures("looks")
class TestALongOperationThatIsGivenUp:
    """Failed: it ran to its end, and its record was finished."""

    def test_stops_to_prune(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        emit_parcels(3)
        Outbox().deliver_all()
        give_up_after_call(monkeypatch, retention, "prune_some")

        removed = operations.prune(older_than=timedelta(0), batch=1, archive=tmp_path, by="cli:ann")

        assert removed == 1
        assert Event.objects.count() == 2
        assert recorded() == ("given_up", 1)
        assert [path.suffix for path in tmp_path.iterdir()] == [".gz"]

    def test_stays_in_the_log_if_it_had_pruned_nothing(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("parcels.ParcelSent", name="tests.invoice")
        def invoice() -> None: ...

        emit_parcels(3)
        run_pass()
        Delivery.objects.update(state="dead")
        give_up_after_call(monkeypatch, retention, "read_slice")

        operations.prune(older_than=timedelta(0), batch=1, by="cli:ann")

        assert recorded() == ("given_up", 0)

    def test_stops_to_redact(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(redaction, "_AT_ONCE", 1)
        events = emit_noted(3)
        give_up_after_call(monkeypatch, redaction, "_redact_some")

        with pytest.raises(operations.GivenUp, match=r"redact.* was given up"):
            operations.redact(subject="customer:7", by="cli:ann", reason="a request")

        assert [event.payload["text"] for event in reread(events)] == ["", "Hanako", "Hanako"]
        assert recorded() == ("given_up", 1)
        assert not Event.objects.filter(name="outbox.SubjectRedacted").exists()

    def test_stops_to_end_a_handler(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(progress, "_SLICE", 1)

        @subscribe("parcels.ParcelSent", name="tests.invoice")
        def invoice() -> None: ...

        emit_parcels(3)
        run_pass()
        give_up_after_call(monkeypatch, progress, "_step")

        done = operations.end("tests.invoice", by="cli:ann", reason="removed")

        assert (done.state, done.touched) == ("given_up", 1)
        assert states() == ["discarded", "sent", "sent"]
        assert set(Operation.objects.values_list("state", flat=True)) == {"given_up"}


class Noted(DomainEvent, key="order", subject="customer:{customer}"):
    order: str
    customer: int
    text: Sensitive[str]


def emit_noted(number: int) -> list[Event]:
    """Emit settled events of one customer."""
    outbox = Outbox()
    facts: dict[str, Any] = {"customer": 7, "text": "Hanako"}
    events = [outbox.given("tests.Noted", order=str(one), **facts) for one in range(number)]
    outbox.deliver_all()
    return events


def reread(events: list[Event]) -> list[Event]:
    return list(Event.objects.filter(pk__in=[event.pk for event in events]).order_by("seq"))


def recorded() -> tuple[str, int]:
    """Return the state of the only operation, and its number of touched rows."""
    operation = Operation.objects.get()
    return operation.state, operation.touched


def give_up_after_call(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Let a person give up the oldest operation after the first call of a function."""
    function = getattr(module, name)

    def call_and_give_up(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        for one in Operation.objects.filter(state="running").order_by("pk")[:1]:
            operations.give_up(one.pk, by="cli:bob")
        return result

    monkeypatch.setattr(module, name, call_and_give_up)
