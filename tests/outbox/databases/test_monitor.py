"""Commands, metrics and pages of several databases."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from io import StringIO
from math import inf
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from outbox import DomainEvent, PermanentFailure, clock, emit, subscribe, timeline_of
from outbox.doctor import owed
from outbox.metrics import families
from outbox.models import Delivery, Event, Operation, Subscription
from outbox.monitor.diagnosis import why_event
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused
from tests.outbox.confirmations import confirm
from tests.outbox.two_databases import BOTH, sync_both

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


@pytest.fixture(autouse=True)
def _dead_in_each(shard: str) -> None:
    """Make a dead delivery in each database, with the same id; two events in the second one."""

    @subscribe("tests.ParcelMoved")
    def refuse(parcel_id: UUID) -> None:
        raise PermanentFailure("no room")

    sync_both()
    for using in BOTH:
        with transaction.atomic(using=using):
            emit(ParcelMoved(parcel_id=uuid4()))
        Outbox(using=using).deliver_all(raise_errors=False)
    with transaction.atomic(using=shard):
        emit(ParcelMoved(parcel_id=uuid4()))


def take(message: object) -> None:
    """Take a message of a channel."""


def states_in(using: str) -> list[str]:
    return list(Delivery.objects.using(using).order_by("id").values_list("state", flat=True))


class TestACommand:
    def test_shows_each_database(self):
        text = outbox_command("status")

        assert text.index("Database default:") < text.index("Database shard_1:")
        assert text.count("tests.refuse") == 2

    def test_that_fails_in_one_database_runs_in_the_others(self):
        for using in BOTH:
            Event.objects.using(using).update(payload={})
        out = StringIO()

        with pytest.raises((CommandError, SystemExit)):
            call_command("outbox", "rehearse", stdout=out)

        assert out.getvalue().count("tests.refuse, tests.ParcelMoved version 1") == 2

    def test_prints_commands_for_its_database(self, shard: str):
        """Failed: each of them was refused, since it named no database."""
        lines = outbox_command("groups", "--database", shard).splitlines()

        commands = [line for line in lines if "manage.py outbox " in line]
        assert commands
        assert all(line.endswith(f" --database {shard}") for line in commands)

    def test_prints_commands_for_each_database_in_json(self, shard: str):
        found = json.loads(outbox_command("groups", "--json"))["databases"]

        for using in BOTH:
            assert found[using][0]["retry"].endswith(f" --database {using}")

    def test_names_its_database_in_the_commands_of_sentences(self, shard: str):
        said = outbox_command("pause", "tests.refuse", "--reason", "x", "--database", shard)

        assert f"`manage.py outbox resume tests.refuse --database {shard}`" in said

    def test_that_fails_names_its_database_in_the_next_step(self, shard: str):
        Delivery.objects.using(shard).update(state="done")
        [number] = Delivery.objects.using(shard).values_list("pk", flat=True)

        said = refused("retry", str(number), "--database", shard)

        assert said == (
            f"Nothing to retry: see `manage.py outbox why {number} --database {shard}`."
        )

    def test_names_its_database_if_subscriptions_are_not_stored(self, shard: str):
        @subscribe("tests.ParcelMoved")
        def weigh(parcel_id: UUID) -> None: ...

        said = refused("pause", "tests.weigh", "--reason", "x", "--database", shard)

        assert said.endswith(f"run migrate --database {shard}.")

    def test_names_its_database_in_the_step_about_a_removed_event(self, shard: str):
        """Failed: "Run `manage.py migrate`", which migrates the default database only."""
        Subscription.objects.using(shard).update(known=False)
        Delivery.objects.using(shard).update(state="parked")

        advice = [one.advice for one in owed.examine(using=shard) if "no longer" in one.text]

        assert advice == [
            f"Run `manage.py migrate --database {shard}` with a release that does. Or end it: "
            "`manage.py outbox end tests.refuse --event tests.ParcelMoved --reason TEXT`."
        ]

    def test_names_no_database_in_its_commands_if_there_is_one(
        self, shard: str, settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        assert "--database" not in outbox_command("groups")
        assert "--database" not in outbox_command("pause", "tests.refuse", "--reason", "x")

    def test_shows_one_database(self, shard: str):
        text = outbox_command("status", "--database", shard)

        assert "Database" not in text
        assert text.count("tests.refuse") == 1

    def test_lists_the_alerts_of_each_database(self):
        """Failed: it required --database."""
        text = outbox_command("alerts")

        assert text.index("Database default:") < text.index("Database shard_1:")

    @pytest.mark.parametrize("database", [[], ["--database", "shard_1"]])
    def test_sends_a_test_message_once(self, settings: Settings, database: list[str]):
        """Failed: it required --database."""
        channel = {"CALL": f"{__name__}.take"}
        settings.OUTBOX = {**settings.OUTBOX, "ALERTS": {"CHANNELS": {"pager": channel}}}

        text = outbox_command("alerts", *database, "test")

        assert text.count("the test message was taken") == 1

    def test_compares_a_document_once(self):
        """Failed: it compared the same two contracts once for each database."""
        out = StringIO()

        with pytest.raises(CommandError, match="No installed app declares an ExternalEvent"):
            call_command(
                "outbox", "rehearse", "--asyncapi", "b.yaml", "--source", "none", stdout=out
            )

        assert out.getvalue() == ""

    def test_writes_one_document_of_json(self):
        found = json.loads(outbox_command("status", "--json"))

        assert list(found["databases"]) == BOTH

    def test_that_names_a_row_needs_a_database(self):
        with pytest.raises(CommandError, match=r"Name one: --database default\|shard_1"):
            outbox_command("retry", "1", "--reason", "a test")

    def test_acts_only_there(self, shard: str):
        pk = Delivery.objects.using(shard).get().pk

        outbox_command("retry", str(pk), "--reason", "a test", "--database", shard)

        assert states_in(shard) == ["pending"]
        assert states_in("default") == ["dead"]
        assert not Operation.objects.using("default").exists()

    def test_has_no_such_option_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        with pytest.raises(CommandError, match="unrecognized arguments: --database"):
            outbox_command("status", "--database", "default")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has the host's clock.")
class TestASentence:
    """Failed: its times were those of the first database's clock."""

    @pytest.fixture(autouse=True)
    def set_clock(self, shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the clock of the second database be a day behind."""
        now = clock.now(using=shard)
        measured = clock._Measurement(now.timestamp() - clock._steady() - 86400, 0.0, inf)
        monkeypatch.setattr(clock, "_measured", {shard: measured})
        monkeypatch.setattr(clock, "_is_host_time", False)

    def test_of_a_delivery_has_the_time_of_its_database(self, shard: str):
        row = Delivery.objects.using(shard).get()
        due = clock.now(using=shard) + timedelta(minutes=5)
        Delivery.objects.using(shard).filter(pk=row.pk).update(state="pending", due_at=due)

        [event] = timeline_of(key=row.event.key, using=shard)

        assert "Retried at" in event.deliveries[0].why

    def test_of_an_event_has_the_time_of_its_database(self, shard: str):
        event = Event.objects.using(shard).latest("seq")
        event.emitted_at = clock.now(using=shard)

        assert why_event(event) == "Just emitted; the relay creates its deliveries next."


class TestTheMetrics:
    def test_have_the_database_as_a_label(self):
        [waiting] = [one for one in families() if one.name == "outbox_waiting_events"]

        assert waiting.labels == ("database",)
        assert dict(waiting.samples) == {("default",): 0, ("shard_1",): 1}

    def test_have_no_such_label_without_the_setting(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        [waiting] = [one for one in families() if one.name == "outbox_waiting_events"]

        assert waiting.labels == ()

    def test_of_queues_are_those_of_each_database(self):
        found = families(only=["outbox_due"])

        assert {labels[0] for labels, _value in found[0].samples} <= set(BOTH)


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ann"))
    return client


def page(name: str, *args: object) -> str:
    return reverse(f"admin:outbox_{name}", args=args)


class TestAPage:
    def test_shows_the_default_database(self, staff: Client, shard: str):
        html = staff.get(page("delivery_changelist")).content.decode()

        key = Event.objects.using("default").get().key
        assert key in html
        assert Event.objects.using(shard).earliest("seq").key not in html
        assert f'href="{page("minute_changelist")}?database=shard_1"' in html

    def test_shows_the_database_that_it_names(self, staff: Client, shard: str):
        pk = Delivery.objects.using(shard).get().pk
        Delivery.objects.using("default").all().delete()

        response = staff.get(page("delivery_change", pk), {"database": shard})

        assert response.status_code == 200
        assert "no room" in response.content.decode()
        assert staff.get(page("delivery_change", pk)).status_code == 302  # no such row there

    @pytest.mark.parametrize(
        "name",
        [
            "minute_changelist",
            "event_changelist",
            "delivery_changelist",
            "delivery_dead",
            "subscription_handlers",
            "subscription_changelist",
            "subscription_map",
            "operation_changelist",
        ],
    )
    def test_names_its_database_in_each_link(self, staff: Client, shard: str, name: str):
        response = staff.get(page(name), {"database": shard})

        html = response.content.decode()
        base = reverse("admin:app_list", args=["outbox"])
        found = re.findall(r'(?:href|action|hx-get)="([^"]*)"', html)
        ours = [one for one in found if one.startswith((base, "?"))]
        assert response.status_code == 200
        assert ours
        assert [one for one in ours if "database=" not in one] == []

    def test_of_the_app_names_its_database_in_each_link(self, staff: Client, shard: str):
        """Failed: its links led to the default database."""
        base = reverse("admin:app_list", args=["outbox"])

        html = staff.get(base, {"database": shard}).content.decode()

        ours = re.findall(rf'(?:href|action)="({base}[^"]+)"', html)
        assert f"{page('delivery_changelist')}?database={shard}" in ours
        assert [one for one in ours if "database=" not in one] == []
        assert "database=" not in staff.get(base).content.decode()
        assert staff.get(base, {"database": "x"}).status_code == 400

    @pytest.mark.parametrize("using", BOTH)
    def test_of_a_history_has_only_the_actions_in_its_database(self, staff: Client, using: str):
        """Failed: it had also those on the row with the same id of the other database."""
        for one in BOTH:
            pk = Delivery.objects.using(one).get().pk
            for language in ("en", "ja"):
                url = f"{page('delivery_changelist')}?database={one}"
                data = {"action": "retry", "_selected_action": [pk], "reason": f"{one} {language}"}
                Delivery.objects.using(one).update(state="dead")
                staff.post(url, data, headers={"accept-language": language})

        pk = Delivery.objects.using(using).get().pk
        LogEntry.objects.update(object_id=pk)  # the ids of both are the same, or not

        text = staff.get(page("delivery_history", pk), {"database": using}).content.decode()

        assert LogEntry.objects.count() == 4
        assert {one for one in BOTH if f"{one} en" in text} == {using}
        assert {one for one in BOTH if f"{one} ja" in text} == {using}

    def test_of_a_history_has_actions_from_before_the_second_database(
        self, staff: Client, shard: str, settings: Settings
    ):
        [pk] = Delivery.objects.values_list("pk", flat=True)
        data = {"action": "retry", "_selected_action": [pk], "reason": "alone"}
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}
        staff.post(page("delivery_changelist"), data)
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": BOTH}

        assert "alone" in staff.get(page("delivery_history", pk)).content.decode()

    def test_leaves_a_search_as_it_was_entered(self, staff: Client, shard: str):
        """Failed: a term like an address was shown, and sent again, with the database in it."""
        response = staff.get(page("event_changelist"), {"q": "?x", "database": shard})

        assert 'value="?x"' in response.content.decode()

    def test_acts_only_on_its_database(self, staff: Client, shard: str):
        pk = Delivery.objects.using(shard).get().pk
        url = f"{page('delivery_changelist')}?database={shard}"
        data = {"action": "retry", "_selected_action": [pk], "reason": "a test"}

        response = staff.post(url, data)

        assert states_in(shard) == ["pending"], response.content.decode()[:2000]
        assert states_in("default") == ["dead"]

    @pytest.mark.parametrize("using", BOTH)
    def test_names_its_database_in_the_log_of_an_action(self, staff: Client, using: str):
        """Failed: the history of a row had the actions on the row of another database."""
        pk = Delivery.objects.using(using).get().pk
        data = {"action": "discard", "_selected_action": [pk]}

        url = f"{page('delivery_changelist')}?database={using}"
        confirm(staff, url, data, reason="a test")

        assert LogEntry.objects.get().change_message.startswith(f"Database {using}: Discard (")

    def test_is_refused_for_an_unknown_database(self, staff: Client):
        assert staff.get(page("event_changelist"), {"database": "x"}).status_code == 400

    def test_names_no_database_to_a_visitor(self, client: Client):
        """An alias may be the name of a tenant."""
        for name in ("default", "shard_1", "unknown"):
            answer = client.get(page("event_changelist"), {"database": name})

            assert answer.status_code == 302

    def test_offers_no_database_without_the_setting(self, staff: Client, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        html = staff.get(page("event_changelist")).content.decode()

        assert "database=" not in html
