"""Doctor, health, checks and init of a project without a broker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import checks
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox import doctor, subscribe
from outbox.admin import periodic
from outbox.deliveries import heartbeat
from outbox.doctor import local
from outbox.management.cli.init import missing
from outbox.models import Delivery, Heartbeat
from outbox.monitor.health import Heartbeats, health_of_parts
from outbox.testing import Outbox
from outbox.transports import notifications
from tests.outbox.command import outbox_command, refused
from tests.outbox.drive import create_deliveries, emit_orders

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "local"),
]


@pytest.fixture(name="local")
def _local(settings: Any) -> None:
    settings.OUTBOX = {"TRANSPORTS": ["local"], "NUDGE": False}


@pytest.fixture
def bill(own_registry: None, local: None) -> None:
    @subscribe("shops.Ordered", queue="bills")
    def bill() -> None: ...

    Outbox()


def beat(kind: str, *queues: str) -> None:
    heartbeat._written.clear()
    heartbeat.beat(kind, "work@host.1", queues=queues)


def found(findings: list[doctor.Finding]) -> dict[str, tuple[str, str]]:
    return {one.part: (one.severity, one.text) for one in findings}


@pytest.mark.usefixtures("bill")
class TestTheDoctor:
    def test_reports_a_queue_that_no_process_serves_although_a_delivery_waits(self):
        emit_orders(1)
        create_deliveries()
        Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=2))
        beat(Heartbeat.Kind.WORKER, "parcels")

        parts = found(doctor.examine(timeout=0.1))

        assert parts["queue bills"] == ("error", "No process serves it.")
        assert parts["relay"] == ("error", "No relay was seen.")

    def test_finds_no_problem_if_no_process_serves_a_queue_without_work(self):
        parts = found(doctor.examine(timeout=0.1))

        assert parts["queue bills"] == (
            "ok",
            "It has no worker and needs none: no delivery has waited for one for over 1 min.",
        )
        assert found(doctor.probe(["bills"]))["queue bills"][0] == "error"

    def test_finds_no_problem_if_a_process_serves_every_queue(self):
        """Seen to fail with the questions about broker, beat and canaries."""
        beat(Heartbeat.Kind.WORKER, "outbox", "bills")
        beat(Heartbeat.Kind.RELAY)

        findings = doctor.examine(timeout=0.1)

        assert [one for one in findings if one.severity == doctor.ERROR] == []
        parts = found(findings)
        assert parts["queue bills"] == (
            "ok",
            "Processes of outbox work that serve it, seen within 30 s: 1.",
        )
        assert parts["wake-up"][0] == "ok"
        assert not {"broker", "beat", "settings", "queues"} & parts.keys()

    @pytest.mark.postgresql
    def test_reports_that_no_notification_arrives(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(notifications, "can_listen", lambda using: False)

        [finding] = local.examine_wake_up(using="default")

        assert finding.severity == "warning"
        assert "as behind a pooler in transaction mode" in finding.text

    def test_is_the_probe_of_a_process(self):
        beat(Heartbeat.Kind.WORKER, "outbox", "bills")
        beat(Heartbeat.Kind.RELAY)

        parts = found(doctor.probe(["bills", "outbox"], worker="work@host.1", timeout=0.1))

        assert {part: severity for part, (severity, _text) in parts.items()} == {
            "queue bills": "ok",
            "relay": "ok",
            "worker work@host.1": "ok",
        }

    def test_leaves_the_queues_to_canaries_beside_celery(self, settings: Any):
        settings.OUTBOX = {"TRANSPORTS": ["celery", "local"]}

        assert list(local.examine_queues(None, using="default")) == []


@pytest.mark.usefixtures("bill")
class TestTheHealth:
    def test_has_no_broker_and_no_beat(self):
        assert [(one.part, one.queue) for one in health_of_parts()] == [
            ("relay", ""),
            ("database", ""),
            ("queue", "bills"),
        ]

    def test_names_the_command_to_start(self):
        assert Heartbeats().relay_clue() == (
            "No relay was ever seen: start `manage.py outbox work`."
        )

    def test_names_the_command_of_a_silent_relay(self):
        """Failed: "check the worker of the queue outbox", which such a project does not have."""
        beat(Heartbeat.Kind.RELAY)
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=1))

        assert Heartbeats().relay_clue() == (
            "The relay was last seen 1 h ago: check `manage.py outbox work`."
        )

    def test_names_the_command_if_there_is_no_delivery(self, admin_client: Client):
        page = admin_client.get(reverse("admin:outbox_delivery_changelist")).content.decode()

        assert "start a relay: a worker of the queue outbox, or manage.py outbox work." in page

    def test_has_no_beat_on_the_page_of_periodic_tasks(self):
        assert periodic._beat() is None


class TestTheChecks:
    def test_ask_for_no_celery_app(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: W070 asks for install(), which the project does not need."""
        monkeypatch.setattr("outbox.checks.celery.has_outbox", lambda app: False)

        assert "outbox.W070" not in {one.id for one in checks.run_checks(tags=["outbox"])}

    @pytest.mark.parametrize("value", ["local", ["redis"], [1], None])
    def test_report_an_unknown_transport(self, settings: Any, value: object):
        settings.OUTBOX = {"TRANSPORTS": value}

        found = [one for one in checks.run_checks(tags=["outbox"]) if one.id == "outbox.E012"]

        assert [one.msg for one in found] == [
            f'OUTBOX["TRANSPORTS"] has the invalid value {value!r}.'
        ]


class TestInit:
    def test_asks_for_no_celery(self):
        assert list(missing()) == []
        assert "manage.py outbox work" in outbox_command("init")


class TestTheCommand:
    def test_refuses_a_project_that_uses_celery_only(self, settings: Any):
        settings.OUTBOX = {"TRANSPORTS": ["celery"]}

        assert 'Set OUTBOX["TRANSPORTS"] = ["local"]' in refused("work")

    @pytest.mark.usefixtures("bill")
    def test_refuses_a_queue_of_no_handler(self):
        assert refused("work", "--queue", "bill") == (
            "No handler has the queue bill. Did you mean bills?"
        )

    @pytest.mark.parametrize("number", ["0", "-1", "x", "1001"])
    def test_refuses_a_wrong_number(self, number: str):
        assert f"invalid number '{number}'" in refused("work", f"--threads={number}")

    def test_refuses_an_unknown_level_of_the_log(self):
        assert "invalid choice: 'LOUD'" in refused("work", "--loglevel=LOUD")
