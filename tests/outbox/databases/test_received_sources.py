"""Of several databases, the monitor expects a process of a source only where it is received."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from outbox import databases
from outbox.alerts import problems
from outbox.deliveries import heartbeat
from outbox.doctor import sources as doctor
from outbox.management.cli.receiving import _Running
from outbox.metrics import families
from outbox.models import Event, Heartbeat, SourceState
from outbox.monitor.health import health_of_parts
from outbox.monitor.sources import source_statuses
from outbox.sources import ReceivedMessage, state, storing
from outbox.sources.receiver import Receiver
from outbox.sources.state import received_in
from tests.outbox.command import outbox_command
from tests.outbox.sources.messages import NoSource, configure, declare_invoice_paid, message
from tests.outbox.two_databases import BOTH
from tests.processes import eventually
from tests.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

RECEIVER = Heartbeat.Kind.RECEIVER


class EmptySource(NoSource):
    """A source whose system has no message for a while."""

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        threading.Event().wait(0.02)
        return []


class SourceOfOne(EmptySource):
    """A source whose system has one message."""

    _is_received = False

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        if self._is_received:
            return super().receive(max_messages, timeout=timeout)
        self._is_received = True
        return [message()]

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None: ...


@pytest.fixture(autouse=True)
def billing(shard: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_written", {})
    configure(settings)


def receive_in(using: str) -> None:
    """Store the heartbeats that a receiver of a database has."""
    name = "billing@host.1"
    heartbeat.beat(RECEIVER, name, queues=["billing"], using=using)
    if using != BOTH[0]:
        heartbeat.beat(RECEIVER, name, queues=[received_in("billing", using)], using=BOTH[0])


def missed_in(using: str) -> list[str]:
    """Return where the monitor misses a process: health of parts, alerts, doctor."""
    parts = [one for one in health_of_parts(using=using) if one.part == "source" and not one.is_on]
    found = problems.find({"source": 0.0}, using=using).problems.values()
    with databases.working_on(using):
        findings = [one for one in doctor.examine(using=using) if one.severity == "error"]
    names = [("parts", parts), ("alerts", found), ("doctor", findings)]
    return [name for name, some in names if some]


class TestASource:
    def test_is_expected_only_where_it_is_received(self, shard: str):
        """Failed: the alert of each other database asked for a second process there."""
        receive_in("default")

        assert missed_in(shard) == []
        assert missed_in("default") == []

    def test_that_another_database_receives_is_not_expected_in_the_first_one(self, shard: str):
        receive_in(shard)

        assert missed_in("default") == []
        assert missed_in(shard) == []

    def test_that_no_process_has_received_is_expected_in_the_first_one(self, shard: str):
        assert missed_in("default") == ["parts", "alerts", "doctor"]
        assert missed_in(shard) == []

    def test_is_missed_where_its_process_has_ended(self, shard: str):
        receive_in(shard)
        for using in BOTH:
            rows = Heartbeat.objects.using(using)
            rows.update(seen_at=F("seen_at") - timedelta(hours=1))

        assert missed_in(shard) == ["parts", "alerts", "doctor"]
        assert missed_in("default") == []

    def test_is_missed_in_the_first_one_when_the_other_has_forgotten_its_process(self, shard: str):
        """Heartbeats are deleted after a day. A source that nobody receives is always missed."""
        receive_in(shard)
        Heartbeat.objects.using(shard).all().delete()
        Heartbeat.objects.update(seen_at=F("seen_at") - timedelta(days=1))

        assert missed_in("default") == ["parts", "alerts", "doctor"]

    def test_is_expected_in_each_database_that_receives_it(self, shard: str):
        for using in BOTH:
            receive_in(using)
        Heartbeat.objects.update(seen_at=F("seen_at") - timedelta(hours=1))

        assert missed_in("default") == ["parts", "alerts", "doctor"]
        assert missed_in(shard) == []

    def test_is_expected_in_the_first_one_also_on_pages_that_read_its_replica(
        self, shard: str, settings: Settings
    ):
        """The second database stands for the replica of the first one."""
        of_first = {"DATABASES": ["default", "shard_2"], "READ_FROM": {"default": shard}}
        of_second = {"DATABASES": ["shard_2", "default"], "READ_FROM": {"default": shard}}

        settings.OUTBOX = {**settings.OUTBOX, **of_first}
        assert [one.condition for one in source_statuses(using=shard)] == ["absent"]
        settings.OUTBOX = {**settings.OUTBOX, **of_second}
        assert source_statuses(using=shard) == []


class TestAReceiverOfTheSecondDatabase:
    @pytest.mark.postgresql  # one thread at a time uses SQLite
    def test_has_heartbeats_in_both(self, shard: str, settings: Settings):
        """Failed: the first database missed a process."""
        config = configure(settings, BACKEND=f"{__name__}.EmptySource")
        stopping = threading.Event()

        def receive() -> None:
            with databases.working_on(shard):
                Receiver(config, stopping=stopping).run()

        end = in_thread(receive)
        try:
            eventually(lambda: queues_in(shard) == [["billing"]], "its heartbeat")
            eventually(lambda: queues_in("default") == [["billing@shard_1"]], "that of the first")
        finally:
            stopping.set()
            end()

        assert missed_in("default") == []

    @pytest.mark.postgresql  # as above
    def test_that_the_command_starts_works_on_it_in_its_thread(
        self, shard: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: heartbeat, counts and nudges were those of the first database."""
        declare_invoice_paid()
        nudged: list[str] = []
        monkeypatch.setattr(storing, "nudge_of", lambda using: lambda: nudged.append(using))
        config = configure(settings, BACKEND=f"{__name__}.SourceOfOne")
        stopping = threading.Event()

        with databases.working_on(shard):
            running = _Running(config, stopping)
        try:
            eventually(lambda: Event.objects.using(shard).exists(), "its event")
            eventually(lambda: nudged == [shard], "its nudge")
            eventually(lambda: queues_in(shard) == [["billing"]], "its heartbeat")
        finally:
            stopping.set()
            running.join()
        state.flush()

        rows = SourceState.objects.using(shard).filter(source="billing")
        assert list(rows.values_list("stored", flat=True)) == [1]
        assert not SourceState.objects.exists()
        assert queues_in("default") == [["billing@shard_1"]]


def queues_in(using: str) -> list[list[str]]:
    rows = Heartbeat.objects.using(using).filter(kind=RECEIVER)
    return list(rows.values_list("queues", flat=True))


class TestTheOtherDatabase:
    def test_is_not_in_status_and_metrics(self, shard: str):
        receive_in("default")

        both = json.loads(outbox_command("status", "--json"))["databases"]
        [processes] = [one for one in families() if one.name == "outbox_source_processes"]

        assert [len(both[using]["sources"]) for using in BOTH] == [1, 0]
        assert dict(processes.samples) == {("default", "billing"): 1}

    def test_shows_that_the_source_belongs_to_another_one(self, client: Client, shard: str):
        receive_in("default")
        client.force_login(User.objects.create_superuser("ann"))

        answer = client.get(reverse("admin:outbox_event_sources"), {"database": shard})

        html = answer.content.decode()
        assert "in another database" in html
        assert "outbox receive billing" not in html
