"""Health, doctor, metrics and status show each source; old ids are deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from outbox import clock
from outbox.deliveries import heartbeat
from outbox.doctor import sources as doctor
from outbox.local import periodic
from outbox.metrics import families
from outbox.models import Alert, Event, Received, SourceState
from outbox.monitor.health import PartHealth, health_of_parts
from outbox.monitor.light import light
from outbox.sources.backlog import Brake, backlog
from outbox.sources.forgetting import forget_received
from outbox.sources.state import flush, note_failure, note_lag, note_pause
from outbox.sources.storing import store
from outbox.tasks import prune_old_events
from outbox.testing import Outbox

from .messages import configure, declare_invoice_paid, message, new_order


@pytest.fixture
def billing(own_registry, settings, monkeypatch):
    monkeypatch.setattr(heartbeat, "_written", {})
    declare_invoice_paid()
    return configure(settings)


@pytest.fixture
def running(billing):
    heartbeat.beat(heartbeat.Kind.RECEIVER, "billing@host.1", queues=["billing"])
    return billing


def source_part(*, has_failures: bool = True) -> PartHealth:
    parts = health_of_parts(has_failures=has_failures)
    return next(one for one in parts if one.part == "source")


def called(*arguments: str) -> str:
    output = StringIO()
    call_command("outbox", *arguments, stdout=output)
    return output.getvalue()


class TestASourceWithoutAProcess:
    def test_is_an_error_with_the_command_that_starts_it(self, billing):
        [found] = doctor.examine(using="default")

        assert found.severity == "error"
        assert "outbox receive billing" in found.advice

    def test_is_off(self, billing):
        [part] = [one for one in health_of_parts() if one.part == "source"]

        assert (part.name, part.is_on, part.text) == ("source billing", False, "never seen")


class TestASourceThatIsReceived:
    def test_is_on(self, running):
        [part] = [one for one in health_of_parts() if one.part == "source"]

        assert (part.is_on, part.text) == (True, "1 process")

    def test_is_off_while_it_cannot_receive(self, running, monkeypatch):
        """Failed: its process runs, so the light was "healthy", and the next step "None"."""
        for kind in (heartbeat.Kind.RELAY, heartbeat.Kind.BEAT, heartbeat.Kind.BROKER):
            heartbeat.beat(kind, str(kind))
        heartbeat.beat(heartbeat.Kind.WORKER, "worker@host.1", queues=["outbox"])
        assert light().text == "healthy"

        note_failure("billing", "No broker answers.")

        part, hidden = source_part(), source_part(has_failures=False)
        assert (part.is_on, part.is_failing) == (False, True)
        assert part.text == "cannot receive: No broker answers"
        assert hidden.text == "cannot receive"
        assert light().text == "source billing failing"

    def test_is_silent_and_not_failing_without_a_process(self, billing):
        note_failure("billing", "No broker answers.")

        part = source_part()

        assert (part.is_on, part.is_failing, part.text) == (False, False, "never seen")

    def test_is_on_while_it_is_paused(self, running):
        """Failed: nothing on the overview said so."""
        note_pause("billing", is_paused=True)

        part = source_part()

        assert (part.is_on, part.text) == (True, "paused: too many owed deliveries")

    def test_costs_one_query_beside_the_health_of_the_other_parts(
        self, running, settings, django_assert_num_queries
    ):
        with CaptureQueriesContext(connection) as captured:
            health_of_parts()
        settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {}}

        with django_assert_num_queries(len(captured) - 1):
            health_of_parts()

    def test_shows_its_lag_and_counts(self, running):
        store(running, [message(1), message(1), message(2, body=b"{")])
        note_lag("billing", 1200)
        flush()

        [found] = doctor.examine(using="default")

        assert found.text == (
            "It receives. Lag: 1,200 messages. Messages since its start: 1 stored, 1 duplicate, "
            "1 unreadable."
        )

    def test_shows_in_the_users_language_that_it_has_no_message(self, running):
        """Failed: "none" in a Japanese sentence."""
        with translation.override("ja"):
            [found] = doctor.examine(using="default")

        assert "なし" in found.text
        assert "none" not in found.text

    def test_hides_why_it_fails_from_users_who_may_not_see_failures(self, running):
        note_failure("billing", "No broker answers.")

        [found] = doctor.examine(using="default", has_failures=False)

        assert found.severity == "error"
        assert found.text.startswith("It has not received for ")
        assert "No broker answers." not in found.text

    def test_is_an_error_while_it_fails(self, running):
        note_failure("billing", "No broker answers.")

        [found] = doctor.examine(using="default")
        note_failure("billing", "")

        assert found.severity == "error"
        assert found.text.startswith("It has not received for ")
        assert "No broker answers." in found.text
        assert [one.severity for one in doctor.examine(using="default")] == ["ok"]

    def test_is_a_warning_while_it_is_paused(self, running):
        note_pause("billing", is_paused=True)

        [found] = doctor.examine(using="default")

        assert found.severity == "warning"

    def test_is_a_row_of_the_status(self, running):
        store(running, [message(1), message(1)])
        flush()

        assert "billing 1 ? 1 1 0 0 0" in " ".join(called("status").split())
        [source] = json.loads(called("status", "--json"))["sources"]
        assert (source["name"], source["counts"]["duplicates"]) == ("billing", 1)

    def test_has_metrics(self, running, settings):
        store(running, [message(1), message(1)])
        note_lag("billing", 7)
        flush()

        found: dict[str, Any] = {one.name: dict(one.samples) for one in families()}

        assert found["outbox_source_messages"]["billing", "duplicates"] == 1
        assert found["outbox_source_lag"]["billing",] == 7
        assert found["outbox_source_processes"]["billing",] == 1
        assert found["outbox_source_paused"]["billing",] == 0
        assert found["outbox_source_absent"]["billing",] == 0

    def test_has_a_metric_of_its_missing_process(self, billing):
        """Failed: no metric distinguished it from a source that needs no process."""
        found: dict[str, Any] = {one.name: dict(one.samples) for one in families()}

        assert found["outbox_source_absent"]["billing",] == 1

    def test_that_needs_no_process_is_not_absent(self, billing, settings):
        backend = "outbox.sources.http.HttpSource"
        configure(settings, BACKEND=backend, OPTIONS={"SECRETS": ["whsec_" + "a" * 32]})

        found: dict[str, Any] = {one.name: dict(one.samples) for one in families()}

        assert found["outbox_source_absent"] == {("billing",): 0}


class TestAnUnreadableMessage:
    def test_is_explained_by_its_external_id(self, billing):
        store(billing, [message(1, data={})])

        assert "outbox.UnreadableMessageReceived /billing id-1" in called("why", "/billing id-1")

    def test_without_an_id_is_explained_by_its_position(self, billing):
        store(billing, [message(2, body=b"{")])

        found = called("why", "message invoices/0/2")

        assert "outbox.UnreadableMessageReceived message invoices/0/2" in found

    def test_takes_its_id_from_a_repaired_message(self, billing):
        store(billing, [message(1, data={})])

        counts = store(billing, [message(1)])

        assert (counts["duplicates"], counts["stored"]) == (1, 0)
        assert [one.name for one in Event.objects.all()] == ["outbox.UnreadableMessageReceived"]


class TestWithoutSources:
    def test_nothing_is_shown(self, own_registry, settings):
        settings.OUTBOX = {"NUDGE": False}

        assert list(doctor.examine(using="default")) == []
        assert "SOURCE" not in called("status")
        found = [one for one in families() if one.name.startswith("outbox_source")]
        assert not any(one.samples for one in found)


class TestTheBacklog:
    def test_counts_waiting_events_and_owed_deliveries_of_the_source_only(self, billing):
        from outbox import DomainEvent, subscribe

        class Other(DomainEvent, key="id"):
            id: str

        @subscribe("billing.InvoicePaid", name="tests.settle")
        def settle(order_id: str) -> None:
            pass

        outbox = Outbox()
        outbox.given("tests.Other", id="1")
        store(billing, [message(number, data=new_order()) for number in range(3)])
        assert backlog("billing", at_most=100) == 3

        outbox.deliver_all()
        assert backlog("billing", at_most=100) == 0

    def test_is_counted_up_to_a_limit(self, billing):
        store(billing, [message(number, data=new_order()) for number in range(5)])

        assert backlog("billing", at_most=2) == 2

    def test_pauses_the_source_until_less_than_half_is_left(self, billing, settings, monkeypatch):
        small = configure(settings, MAX_BACKLOG=4)
        brake = Brake(small)
        brake._decide()
        assert not brake.is_on

        store(small, [message(number, data=new_order()) for number in range(4)])
        states = []
        for left in (4, 3, 2, 1):
            self.leave(left)
            brake._decide()
            states.append(brake.is_on)

        assert states == [True, True, True, False]
        assert SourceState.objects.get().paused_at is None

    def test_ends_the_pause_of_a_process_that_is_gone(self, billing, settings, monkeypatch):
        monkeypatch.setattr("outbox.sources.backlog._EVERY", 0)
        monkeypatch.setattr("outbox.sources.backlog._NOTE_EVERY", 0, raising=False)
        small = configure(settings, MAX_BACKLOG=4)
        remaining, gone = Brake(small), Brake(small)
        assert not remaining.is_needed()
        store(small, [message(number, data=new_order()) for number in range(4)])
        assert gone.is_needed()

        self.leave(3)
        self.is_shown_as_paused(remaining, True)
        self.leave(1)
        self.is_shown_as_paused(remaining, False)

    def leave(self, number: int) -> None:
        """Let so many events wait for fan-out."""
        waiting = list(Event.objects.order_by("seq").values_list("pk", flat=True)[number:])
        Event.objects.filter(pk__in=waiting).update(fanned_out_at=clock.now())

    def is_shown_as_paused(self, brake: Brake, expected: bool) -> None:
        assert not brake.is_needed()
        assert (SourceState.objects.get().paused_at is not None) is expected


class TestOldIds:
    def test_are_deleted(self, billing):
        store(billing, [message(1), message(2)])
        old = clock.now() - timedelta(days=31)
        Received.objects.filter(external_id__endswith="id-1").update(received_at=old)

        assert forget_received(at_most=timedelta(seconds=60)) == 1
        assert [one.external_id for one in Received.objects.all()] == ["/billing id-2"]

    @pytest.mark.parametrize("prune", [prune_old_events, periodic.prune])
    def test_are_deleted_even_if_no_event_can_be_archived(
        self, billing, settings, tmp_path, prune: Callable[[], None]
    ):
        """Failed: they stayed, and so did alerts that no channel is for."""
        store(billing, [message(1)])
        old = clock.now() - timedelta(days=31)
        Received.objects.update(received_at=old)
        Alert.objects.create(problem="dead", trigger="dead", opened_at=old, seen_at=old)
        no_folder = tmp_path / "file"
        no_folder.touch()
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"default": 1}, "ARCHIVE": no_folder}

        with pytest.raises(FileExistsError):
            prune()

        assert not Received.objects.exists()
        assert Alert.objects.get().resolved_at is not None

    def test_of_another_source_are_kept(self, billing):
        old = clock.now() - timedelta(days=3000)
        store(billing, [message(1)])
        Received.objects.update(source="former", received_at=old)

        assert forget_received(at_most=timedelta(seconds=60)) == 0

    def test_are_kept_as_long_as_configured(self, billing, settings):
        configure(settings, DEDUPLICATION_DAYS=40)
        store(billing, [message(1)])
        Received.objects.update(received_at=clock.now() - timedelta(days=31))

        assert forget_received(at_most=timedelta(seconds=60)) == 0


class TestTheCommand:
    def test_refuses_an_unknown_source(self, billing):
        with pytest.raises(CommandError, match=r"has no source biling\. It has: billing"):
            called("receive", "biling")

    def test_refuses_to_run_without_sources(self, own_registry, settings):
        settings.OUTBOX = {}

        with pytest.raises(CommandError, match="no source to receive"):
            called("receive")

    def test_refuses_a_source_that_is_called_by_http(self, billing, settings):
        backend = "outbox.sources.http.HttpSource"
        configure(settings, BACKEND=backend, OPTIONS={"SECRETS": ["whsec_" + "a" * 32]})

        with pytest.raises(CommandError, match="needs no process"):
            called("receive", "billing")

    @pytest.mark.django_db(transaction=True)
    def test_ends_with_the_error_of_a_source_that_cannot_be_opened(self, billing, settings):
        options = {"group.id": "x"}
        configure(settings, BACKEND="outbox.sources.kafka.KafkaSource", OPTIONS=options)

        with pytest.raises(CommandError, match=r"has group\.id"):
            called("receive")
