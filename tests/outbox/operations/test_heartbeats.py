"""An operation without steps of its own stores heartbeats, so the doctor does not call it ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from outbox import DomainEvent, Sensitive, operations, retention, subscribe
from outbox.local import periodic
from outbox.models import Delivery, Event, Operation
from outbox.operations import progress
from outbox.privacy import redaction
from outbox.retention import pace
from outbox.tasks import prune_old_events
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import Died, die, emit_parcels, run_pass, states

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
        owe_three()

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
        owe_three()
        give_up_after_call(monkeypatch, progress, "_step")

        done = operations.end("tests.invoice", by="cli:ann", reason="removed")

        assert (done.state, done.touched) == ("given_up", 1)
        assert states() == ["discarded", "sent", "sent"]
        assert set(Operation.objects.values_list("state", flat=True)) == {"given_up"}

    def test_stops_to_end_a_handler_if_its_discard_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: the record of `end` was finished."""
        monkeypatch.setattr(progress, "_SLICE", 1)
        owe_three()
        give_up_after_call(monkeypatch, progress, "_step", action="discard")

        done = operations.end("tests.invoice", by="cli:ann", reason="removed")

        assert (done.state, done.touched) == ("given_up", 1)
        assert states() == ["discarded", "sent", "sent"]

    def test_does_not_end_another_process_that_continues_it(self, monkeypatch: pytest.MonkeyPatch):
        """Two processes that end a handler share one record, and the later one discards."""
        monkeypatch.setattr(progress, "_SLICE", 1)
        owe_three()
        step, calls = progress._step, 0

        def continue_it_after_the_first(*args: Any, **options: Any) -> None:
            nonlocal calls
            step(*args, **options)
            calls += 1
            if calls == 1:
                number = Operation.objects.get(action="end").pk
                operations.continue_operation(number, by="cli:bob")

        monkeypatch.setattr(progress, "_step", continue_it_after_the_first)

        operations.end("tests.invoice", by="cli:ann", reason="removed")

        assert states() == ["discarded"] * 3
        assert Operation.objects.get(action="end").state == "finished"


@pytest.mark.usefixtures("looks")
class TestACommandWhoseOperationIsGivenUp:
    """Failed: it reported success, or that there was nothing to change."""

    @pytest.fixture(autouse=True)
    def _small_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "_SLICE", 1)
        monkeypatch.setattr(pace, "SMALLEST", 1)
        monkeypatch.setattr(pace, "LARGEST", 1)

    @pytest.mark.parametrize(
        ("command", "before"), [("retry", "dead"), ("discard", "dead"), ("replay", "done")]
    )
    def test_says_how_many_deliveries_it_has_changed(
        self, command: str, before: str, monkeypatch: pytest.MonkeyPatch
    ):
        owe_three()
        Delivery.objects.update(state=before, order_key=None)
        give_up_after_call(monkeypatch, progress, "_step")

        said = refused(command, "--handler", "tests.invoice", "--reason", "x")

        number = Operation.objects.get().pk
        assert said == (
            f"Operation {number} ({command}) was given up while it ran, after 1 delivery. The rest "
            "was not changed. See `manage.py outbox log`."
        )

    def test_says_so_if_nothing_was_changed(self, monkeypatch: pytest.MonkeyPatch):
        owe_three()
        Delivery.objects.update(state="dead")
        give_up_before_call(monkeypatch, progress, "_step")

        said = refused("retry", "--dead")

        assert "(retry) was given up while it ran, after 0 deliveries." in said

    def test_says_that_the_subscriptions_have_ended(self, monkeypatch: pytest.MonkeyPatch):
        owe_three()
        give_up_after_call(monkeypatch, progress, "_step")

        said = refused("end", "tests.invoice", "--reason", "removed")

        assert "(end) was given up while it ran, after 1 delivery. " in said
        assert said.endswith(
            "The subscriptions have ended, and their other deliveries are still owed. To discard "
            "them, run the same command again."
        )

    def test_says_how_many_deliveries_a_backfill_has_created(self, monkeypatch: pytest.MonkeyPatch):
        emit_parcels(2)
        run_pass()
        subscribe_invoice()
        Outbox()
        give_up_after_call(monkeypatch, progress, "_step")

        said = refused("backfill", "tests.invoice", "--reason", "x", "--rate", "1")

        assert "(backfill) was given up while it ran, after 1 delivery." in said

    def test_that_continues_it_says_how_many_it_has_changed(self, monkeypatch: pytest.MonkeyPatch):
        owe_three()
        Delivery.objects.update(state="dead")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
            patch.setattr(progress, "_step", lambda *_args, **_options: die())
            outbox_command("retry", "--dead")
        give_up_after_call(monkeypatch, progress, "_step")

        said = refused("continue", str(Operation.objects.get().pk))

        assert "(retry) was given up while it ran, after 1 delivery." in said

    def test_says_how_many_events_it_has_deleted(self, monkeypatch: pytest.MonkeyPatch):
        emit_parcels(3)
        Outbox().deliver_all()
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=2))
        give_up_after_call(monkeypatch, retention, "prune_some")

        said = refused("prune", "--older-than", "1d")

        assert "(prune) was given up while it ran, after 1 event. The rest was not" in said
        assert Event.objects.count() == 2

    @pytest.mark.parametrize("job", [prune_old_events, periodic.prune])
    def test_of_a_schedule_does_not_fail(
        self, job: Callable[[], object], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}}
        emit_parcels(3)
        Outbox().deliver_all()
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=2))
        give_up_after_call(monkeypatch, retention, "prune_some")

        job()

        assert recorded() == ("given_up", 1)


class Noted(DomainEvent, key="order", subject="customer:{customer}"):
    order: str
    customer: int
    text: Sensitive[str]


def subscribe_invoice() -> None:
    @subscribe("parcels.ParcelSent", name="tests.invoice")
    def invoice() -> None: ...


def owe_three() -> None:
    """Emit three events, and send their deliveries to a new handler."""
    subscribe_invoice()
    emit_parcels(3)
    run_pass()


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


def give_up_after_call(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, **choice: str
) -> None:
    """Let a person give up the oldest operation, of a choice, after a call of a function."""
    function = getattr(module, name)

    def call_and_give_up(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        give_up_oldest(**choice)
        return result

    monkeypatch.setattr(module, name, call_and_give_up)


def give_up_before_call(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Let a person give up the oldest operation before a call of a function."""
    function = getattr(module, name)

    def give_up_and_call(*args: Any, **options: Any) -> Any:
        give_up_oldest()
        return function(*args, **options)

    monkeypatch.setattr(module, name, give_up_and_call)


def give_up_oldest(**choice: str) -> None:
    for one in Operation.objects.filter(state="running", **choice).order_by("pk")[:1]:
        operations.give_up(one.pk, by="cli:bob")
