"""An operation without steps of its own stores heartbeats, so the doctor does not call it ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from outbox import operations, retention, subscribe
from outbox.models import Event, Operation
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
