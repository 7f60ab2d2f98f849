"""Alerts, commands, metrics and the health light of several databases, also while one is down."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from outbox import DomainEvent, PermanentFailure, clock, databases, emit, subscribe
from outbox.admin import overview_first
from outbox.alerts import problems
from outbox.alerts.findings import Problem, of_database
from outbox.alerts.watch import Watch
from outbox.doctor import database
from outbox.metrics import families
from outbox.models import AlertClaim, Delivery, Minute
from outbox.monitor import light as lights
from outbox.monitor.light import light_of_all
from outbox.testing import Outbox
from tests.outbox.alerts.world import Kind, alerts, beat
from tests.outbox.two_databases import BOTH, sync_both, unreachable

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


@pytest.fixture(autouse=True)
def _dead_in_the_second_one(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a dead delivery in the second database."""

    @subscribe("tests.ParcelMoved")
    def refuse(parcel_id: UUID) -> None:
        raise PermanentFailure("no room")

    sync_both()
    with transaction.atomic(using=shard):
        emit(ParcelMoved(parcel_id=uuid4()))
    Outbox(using=shard).deliver_all(raise_errors=False)
    monkeypatch.setattr(lights, "_unread_until", {})


def dead_in(using: str) -> list[Problem]:
    return list(problems.find({"dead": 0.0}, using=using).problems.values())


class TestAnAlert:
    def test_names_its_database_in_text_link_and_command(self, shard: str):
        [one] = dead_in(shard)

        assert one.text.startswith("Database shard_1: tests.refuse has 1 dead delivery: ")
        assert "`manage.py outbox retry --dead --handler tests.refuse " in one.text
        assert one.text.endswith(" --database shard_1`.")
        assert one.path.endswith("?handler=tests.refuse&database=shard_1")

    def test_is_found_only_in_its_database(self):
        assert dead_in("default") == []

    def test_names_no_database_if_there_is_one(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        [one] = dead_in(shard)

        assert one.text.startswith("tests.refuse has 1 dead delivery: ")
        assert "--database" not in one.text
        assert "database=" not in one.path

    def test_adds_no_database_to_a_command_that_serves_all(self, shard: str):
        text = "No relay was ever seen: start `manage.py outbox work`. See `manage.py outbox log`."
        made = Problem(key="k", trigger="silent", text=text)

        named = of_database(made, shard)

        assert "`manage.py outbox work`" in named.text
        assert "`manage.py outbox log --database shard_1`" in named.text


class TestTheDeadMansPing:
    def test_is_not_sent_and_is_tried_again_soon(
        self, shard: str, caplog: pytest.LogCaptureFixture
    ):
        """Failed: it was tried again after 25 s, with a traceback each time."""
        beat(Kind.RELAY, Kind.BEAT)
        dead_man = {"URL": "https://pings.example", "SECONDS": 3600}
        watch = Watch(alerts(CHANNELS={}, DEAD_MAN=dead_man), using="default")

        with unreachable(shard):
            watch.look()
            watch.wait()

        text = "The dead man's ping is not sent: silent: database shard_1 (connection refused)."
        assert [one.getMessage() for one in caplog.records] == [text]
        left = AlertClaim.objects.get(name="dead man").until - timezone.now()
        assert left <= timedelta(seconds=10)


def run(*arguments: str) -> tuple[int, str]:
    """Run a command that exits by itself, and return its status and its output."""
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("outbox", *arguments, stdout=out)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue()


class TestACommandWhileOneDatabaseIsDown:
    """Seen to fail: it ended with the first database that did not answer."""

    def test_shows_the_others_and_names_it(self):
        with unreachable("default"):
            status, text = run("status")

        assert status == 1
        assert "The database default cannot be reached" in text
        assert text.index("Database shard_1:") < text.index("tests.refuse")

    def test_names_it_in_json(self):
        with unreachable("default"):
            status, text = run("groups", "--json")

        found = json.loads(text)["databases"]
        assert status == 1
        assert found["default"]["error"].startswith("The database default cannot be reached")
        assert found["shard_1"]

    def test_of_the_doctor_reports_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(database, "_SLOW_SECONDS", 60.0)  # a busy machine may write slowly
        with unreachable("default"):
            status, text = run("doctor", "--timeout", "0.1")

        assert status == 1
        assert "connection refused" in text.partition("Database shard_1:")[0]
        assert "Writes do not wait" in text.partition("Database shard_1:")[2]

    def test_takes_the_time_of_the_named_database(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed on PostgreSQL: an age was subtracted from the clock of the first database."""
        monkeypatch.setattr(clock, "_measured", {})  # as in a new process
        monkeypatch.setattr(clock, "_is_host_time", False)
        with unreachable("default"):
            out = StringIO()
            call_command(
                "outbox", "retry", "--dead", "--since", "1h", "--database", shard, stdout=out
            )

        assert out.getvalue().startswith("1 delivery made due. ")


class TestTheMetricsWhileOneDatabaseIsDown:
    """Seen to fail: the page failed for all."""

    def test_have_the_others_and_say_which_is_down(self):
        with unreachable("default"):
            found = {one.name: one for one in families()}

        up, waiting = found["outbox_database_up"], found["outbox_waiting_events"]
        assert dict(up.samples) == {("default",): 0, ("shard_1",): 1}
        assert {labels for labels, _value in waiting.samples} == {("shard_1",)}

    def test_say_that_all_are_up_again(self):
        with unreachable("default"):
            families()

        [up] = families(only=["outbox_database_up"])

        assert dict(up.samples) == dict.fromkeys(((one,) for one in BOTH), 1)


class TestTheLight:
    def test_is_that_of_the_worst_database(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lights, "health_of_parts", lambda **_options: [])

        found, using = light_of_all()

        assert (found.condition, found.text, using) == ("dead", "shard_1: dead letters", "shard_1")

    def test_shows_a_database_that_is_down(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lights, "health_of_parts", lambda **_options: [])

        with unreachable(shard):
            found, using = light_of_all()

        assert (found.condition, using) == ("dead", shard)
        assert found.text == "the database shard_1 cannot be read"

    def test_shows_that_the_only_one_is_down_if_it_is_not_the_default_one(
        self, shard: str, settings: Settings
    ):
        """Failed: each page of the admin was an error, although users are in another database."""
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": [shard]}

        with unreachable(shard):
            found, using = light_of_all()

        assert (found.condition, using) == ("dead", shard)
        assert found.text == "the database shard_1 cannot be read"

    def test_does_not_name_the_only_one(
        self, shard: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(lights, "health_of_parts", lambda **_options: [])
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": [shard]}

        assert light_of_all()[0].text == "dead letters"

    def test_asks_a_database_that_is_down_once_in_a_while(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Each page of the admin shows the light, and a lost host answers after seconds."""
        asked: list[str] = []
        light = lights.light

        def note(*, using: str) -> lights.Light:
            asked.append(using)
            return light(using=using)

        monkeypatch.setattr(lights, "light", note)
        with unreachable(shard):
            light_of_all()
            light_of_all()

        assert asked.count(shard) == 1

    def test_leads_to_the_worst_database(self, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(lights, "health_of_parts", lambda **_options: [])
        request = rf.get("/admin/")
        request.user = User.objects.create_superuser("ann")
        url = reverse("admin:outbox_minute_changelist")
        entry = {"model": Minute, "name": "Overview", "admin_url": url}

        overview_first([{"app_label": "outbox", "models": [entry]}], request)

        assert entry["admin_url"] == f"{url}?database=shard_1"
        assert "shard_1: dead letters" in str(entry["name"])

    @pytest.mark.parametrize("is_index", [False, True])
    def test_leads_from_a_page_of_another_database_to_the_worst_one(
        self, rf: RequestFactory, shard: str, monkeypatch: pytest.MonkeyPatch, is_index: bool
    ):
        """Failed: the page added its own database to an address that named none.

        The app's index has the name in its request, and works on the default database.
        """
        monkeypatch.setattr(lights, "health_of_parts", lambda **_options: [])
        Delivery.objects.using(shard).update(state="done")
        with transaction.atomic():
            emit(ParcelMoved(parcel_id=uuid4()))
        Outbox(using="default").deliver_all(raise_errors=False)
        request = rf.get("/admin/outbox/", {"database": shard} if is_index else {})
        request.user = User.objects.create_superuser("ann")
        url = reverse("admin:outbox_minute_changelist")
        entry = {"model": Minute, "name": "Overview", "admin_url": url}

        with databases.working_on(None if is_index else shard):
            overview_first([{"app_label": "outbox", "models": [entry]}], request)

        assert entry["admin_url"] == f"{url}?database=default"
        assert "default: dead letters" in str(entry["name"])
