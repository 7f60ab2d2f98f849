"""The doctor, without processes and broker. For real processes, see tests/chaos."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from amqp.exceptions import AccessRefused
from celery import Celery, current_app
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.db.models import F
from django.utils import timezone, translation

from outbox import events, operations, subscribe, subscriptions
from outbox.deliveries import heartbeat
from outbox.doctor import (
    Finding,
    broker,
    database,
    examine,
    examine_without_broker,
    findings,
    owed,
    probe,
    processes,
)
from outbox.formatting import format_time
from outbox.models import Attempt, Delivery, Heartbeat, Operation, Subscription
from outbox.testing import Outbox
from outbox.transports import celery_settings
from tests.outbox.celery_settings import set_celery
from tests.outbox.command import outbox_command
from tests.outbox.drive import run_pass
from tests.outbox.project.celery import app as app_of_project
from tests.outbox.sessions import acting_as_visitor, in_another_transaction

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge")


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a broker address at which no server listens."""
    set_celery(monkeypatch, "broker_write_url", "redis://127.0.0.1:1/0")


@pytest.fixture
def outbox() -> Outbox:
    """Two handlers that fail for good, each at a place of its own."""

    @subscribe("parcels.ParcelSent", attempts=1)
    def invoice() -> None:
        raise ValueError("no paper")

    @subscribe("parcels.ParcelSent", attempts=1)
    def weigh() -> None:
        raise KeyError("scales")

    return Outbox()


def failed(outbox: Outbox, number: int) -> None:
    for _ in range(number):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
    outbox.deliver_all(raise_errors=False)


def severities(found: list[Finding]) -> dict[str, str]:
    return {one.text: one.severity for one in found}


class TestTheDoctor:
    def test_works_when_broker_relay_and_workers_are_down(self, outbox: Outbox, no_broker: None):
        out = StringIO()

        with pytest.raises(SystemExit) as ended:
            call_command("outbox", "doctor", "--json", "--timeout", "0.1", stdout=out)

        found = {(one["part"], one["severity"]): one for one in json.loads(out.getvalue())}
        assert ended.value.code == 1
        assert found["broker", "error"]["text"].startswith("It cannot be used: ")
        assert found["relay", "error"]["text"] == "No relay was seen."
        assert "No canary could be sent" in found["queues", "error"]["text"]
        assert found["database", "ok"]
        assert all(one["advice"] for one in found.values() if one["severity"] != "ok")
        assert not any("outbox doctor" in one["advice"] for one in found.values())

    def test_reports_a_part_that_cannot_be_examined(self, monkeypatch: pytest.MonkeyPatch):
        def broken(**_options: Any) -> None:
            raise RuntimeError("no permission")

        monkeypatch.setattr(owed, "examine", broken)
        monkeypatch.setattr(
            "outbox.doctor.processes.examine_queues", lambda *_names, **_options: []
        )

        found = [one for one in examine() if one.part == "owed deliveries"]

        assert [(one.severity, "no permission" in one.text) for one in found] == [("error", True)]

    def test_quotes_an_error_on_one_line(self, monkeypatch: pytest.MonkeyPatch):
        def broken(**_options: Any) -> None:
            raise RuntimeError("no such column\nLINE 1: SELECT\n         ^")

        monkeypatch.setattr(owed, "examine", broken)

        found = [one.text for one in examine_without_broker() if one.part == "owed deliveries"]

        assert found == ["It could not be examined: RuntimeError: no such column LINE 1: SELECT ^."]

    def test_translates_the_name_of_each_part_that_it_examines(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: "queues", "heartbeats", "sources" and "subscriptions" were English."""
        names: set[str] = set()
        monkeypatch.setattr("outbox.doctor._examine", names.update)

        examine()
        probe(["outbox"], worker="outbox@host")

        assert {"queues", "heartbeats", "worker"} < names <= set(findings._PARTS)
        assert {findings.error(name, "", "").label for name in names} == names


def beat_worker(name: str, *queues: str) -> None:
    """Write the heartbeat of a worker that consumes these queues."""
    heartbeat._written.clear()
    heartbeat.beat(Heartbeat.Kind.WORKER, name, queues=queues)


def start_delivery(outbox: Outbox, *, lease: timedelta) -> None:
    """Start a delivery with this lease."""
    outbox.given("parcels.ParcelSent", parcel_id=uuid4())
    run_pass()
    started = {"started_token": F("token"), "due_at": timezone.now() + lease}
    Delivery.objects.filter(state=Delivery.State.SENT).update(**started)


class TestAProbe:
    """The findings about one worker that answers no canary. For real workers, see tests/chaos."""

    @pytest.fixture(autouse=True)
    def _silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_celery(monkeypatch, "broker_write_url", "memory://")
        monkeypatch.setattr(current_app.amqp, "_producer_pool", None)  # of the address before

    def found(self, *queues: str, worker: str = "") -> dict[str, tuple[str, str]]:
        findings = probe(queues, worker=worker, timeout=0.2)
        return {one.part: (one.severity, one.text) for one in findings}

    def test_checks_only_its_queue(self, outbox: Outbox):
        assert list(self.found("tests")) == ["queue tests"]

    def test_reports_a_queue_without_a_worker(self, outbox: Outbox):
        severity, text = self.found("tests")["queue tests"]

        assert (severity, text) == ("error", "The canary was not answered: it has no worker.")

    def test_reports_a_worker_that_runs_but_does_not_consume(self, outbox: Outbox):
        beat_worker("tests@host", "tests")

        severity, text = self.found("tests")["queue tests"]

        assert severity == "error"
        assert "no longer consumes" in text

    def test_accepts_a_busy_worker(self, outbox: Outbox):
        beat_worker("tests@host", "tests")
        start_delivery(outbox, lease=timedelta(minutes=1))

        severity, text = self.found("tests")["queue tests"]

        assert severity == "warning"
        assert "its workers run 2 deliveries, within their leases" in text

    def test_counts_one_running_delivery_in_the_singular(self, outbox: Outbox):
        beat_worker("tests@host", "tests")
        start_delivery(outbox, lease=timedelta(minutes=1))
        Delivery.objects.filter(state="sent").earliest("pk").delete()

        text = self.found("tests")["queue tests"][1]

        assert "its workers run 1 delivery, within its lease" in text

    def test_does_not_accept_a_worker_that_is_stuck_beyond_its_lease(self, outbox: Outbox):
        beat_worker("tests@host", "tests")
        start_delivery(outbox, lease=timedelta(seconds=-1))

        assert self.found("tests")["queue tests"][0] == "error"

    @pytest.mark.parametrize(
        ("consumed", "severity", "said"),
        [
            (("tests", "others"), "ok", "It runs and consumes tests."),
            (("others",), "error", "It runs, but does not consume tests."),
        ],
    )
    def test_checks_the_queues_of_one_worker(
        self, outbox: Outbox, consumed: tuple[str, ...], severity: str, said: str
    ):
        beat_worker("tests@host", *consumed)

        assert self.found("tests", worker="tests@host")["worker tests@host"] == (severity, said)

    def test_reports_a_silent_worker_although_another_runs(self, outbox: Outbox):
        beat_worker("tests@one", "tests")
        beat_worker("tests@other", "tests")
        hour_ago = timezone.now() - timedelta(hours=1)
        Heartbeat.objects.filter(name="tests@one").update(seen_at=hour_ago)

        severity, text = self.found("tests", worker="tests@one")["worker tests@one"]

        assert (severity, text) == ("error", "It was last seen 1 h ago.")

    def test_of_the_relays_queue_requires_a_relay(self, outbox: Outbox):
        beat_worker("relay@host", "outbox")

        assert self.found("outbox")["relay"] == ("error", "No relay was seen.")

    def test_by_the_command_ends_with_1_if_no_worker_consumes(self, outbox: Outbox):
        out = StringIO()

        with pytest.raises(SystemExit) as ended:
            call_command(
                "outbox", "doctor", "--json", "--queue", "tests", "--timeout", "0.1", stdout=out
            )

        assert ended.value.code == 1
        assert [one["part"] for one in json.loads(out.getvalue())] == ["queue tests"]

    def test_by_the_command_needs_a_queue_for_a_worker(self, outbox: Outbox):
        with pytest.raises(CommandError, match="--worker requires --queue"):
            call_command("outbox", "doctor", "--worker", "tests@host")


class TestTheBroker:
    @pytest.mark.parametrize(
        ("facts", "severity", "said"),
        [
            (
                {"maxmemory": 100, "maxmemory_policy": "allkeys-lru"},
                "error",
                "evicts messages",
            ),
            ({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, "ok", "evicts no message"),
            (
                {"maxmemory": 100, "used_memory": 90, "maxmemory_policy": "noeviction"},
                "warning",
                "90% of its memory",
            ),
            ({"aof_enabled": 0}, "warning", "loses its messages"),
            ({"aof_enabled": 1}, "ok", "to disk"),
            ({"role": "slave"}, "error", "replica"),
        ],
    )
    def test_is_judged_by_its_info(self, facts: dict[str, Any], severity: str, said: str):
        found = [one for one in broker.of_redis(facts) if said in one.text]

        assert [one.severity for one in found] == [severity]

    def test_that_refuses_the_user_is_not_said_to_be_silent(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: "does not answer: AccessRefused", and the advice to start it."""

        def refuse(_connection: object) -> None:
            raise AccessRefused("ACCESS_REFUSED - Login was refused")

        set_celery(monkeypatch, "broker_write_url", "memory://")
        monkeypatch.setattr(celery_settings, "connect_once", refuse)

        [found] = broker.examine_broker()

        assert found.text.startswith("It cannot be used: AccessRefused: ")
        assert "user, password, permissions or certificate" in found.advice

    def test_that_refuses_the_user_takes_no_canary_for_the_same_cause(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(*_args: object, **_options: object) -> None:
            raise AccessRefused("ACCESS_REFUSED - Login was refused")

        monkeypatch.setattr("outbox.tasks.send_canary", refuse)

        [found] = processes.examine_queues(["outbox"], timeout=0.1, using="default")

        assert found.text.startswith("No canary could be sent: AccessRefused: ")
        assert "user, password, permissions or certificate" in found.advice


class TestTheSettings:
    def test_of_the_shop_are_safe(self, outbox: Outbox):
        assert [one.severity for one in broker.examine_settings()] == ["ok"]

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("worker_prefetch_multiplier", 4, "reserves messages of idle ones"),
            ("accept_content", ["json", "pickle"], "run code"),
        ],
    )
    def test_that_are_not_are_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: object, said: str
    ):
        set_celery(monkeypatch, name, value)

        found = broker.examine_settings()

        assert [one for one in found if said in one.text and one.advice]

    def test_are_those_of_an_app_with_the_outbox(self):
        """An app that is not imported by its package: the current app is Celery's default."""
        with without_app_of_project():
            found = examine(timeout=0.1)

        [settings] = [one for one in found if one.part in ("settings", "broker", "queues")]
        assert settings.severity == "error"
        assert settings.text.startswith("This process has not loaded your Celery app.")
        assert "from .celery import app as celery_app" in settings.advice


@contextmanager
def without_app_of_project() -> Iterator[None]:
    """Make an app current that is configured by nothing, as Celery's default app."""
    Celery(set_as_current=True)
    try:
        yield
    finally:
        app_of_project.set_current()


class TestASilentProcess:
    def found(self) -> list[tuple[str, str]]:
        return [
            (one.severity, one.text)
            for one in processes.examine_heartbeats(using="default")
            if one.part == "processes"
        ]

    def test_is_a_note_while_another_one_does_its_work(self):
        beat_worker("tests@lost", "tests")
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
        beat_worker("tests@other", "tests", "more")

        [(severity, text)] = self.found()

        assert severity == "ok"
        assert text.startswith("1 process is silent, and others do its work: tests@lost (5 min")

    def test_is_left_to_the_finding_about_its_queue_otherwise(self):
        beat_worker("tests@lost", "tests")
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
        beat_worker("other@host", "other")

        assert self.found() == []


class TestBeat:
    """Its task writes a heartbeat where it runs, and its process one of its own."""

    @pytest.fixture(autouse=True)
    def _time_stands_still(self) -> Iterator[None]:
        with time_machine.travel(timezone.now(), tick=False):
            yield

    def found(self) -> tuple[str, str]:
        [finding] = [
            one for one in processes.examine_heartbeats(using="default") if one.part == "beat"
        ]
        return finding.severity, finding.text

    def seen(self, name: str, *, ago: float = 1, started: float = 1) -> None:
        now = timezone.now()
        Heartbeat.objects.create(
            kind=Heartbeat.Kind.BEAT,
            name=name,
            started_at=now - timedelta(seconds=started),
            seen_at=now - timedelta(seconds=ago),
        )

    def test_that_has_just_started_is_no_problem(self):
        """Seen to fail: "Its task never ran", in the first seconds."""
        self.seen("host.7", started=4)

        assert self.found() == (
            "ok",
            "It started 4 s ago. Its task runs every few seconds from now on.",
        )

    def test_whose_task_does_not_arrive_is_distinguished_from_a_silent_one(self):
        self.seen("host.7", started=300)

        assert self.found() == ("warning", "It runs, but its task never ran.")

    def test_whose_task_arrives_is_ok_without_a_process_of_this_release(self):
        self.seen("beat")

        assert self.found() == ("ok", "Its task ran 1 s ago.")

    def test_that_is_silent_is_reported_as_such(self):
        assert self.found() == ("warning", "It is silent: its task never ran.")

    def test_that_ended_is_reported_with_both_times(self):
        self.seen("beat", ago=125)
        self.seen("host.7", ago=120, started=900)

        assert self.found() == (
            "warning",
            "It was last seen 2 min ago, and its task last ran 2 min 5 s ago.",
        )

    def test_is_not_taken_for_seen_because_of_periodic_jobs_without_beat(self):
        self.seen("outbox.prune")

        assert self.found()[1] == "It is silent: its task never ran."


def about_long_transactions() -> list[Finding]:
    return [one for one in database.examine(using="default") if " is open for " in one.text]


class TestTheDatabase:
    def test_is_fit(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(database, "_SLOW_SECONDS", 60.0)  # that of a busy machine is no fault
        found = database.examine(using="default")

        # What other tests have left behind is not vacuumed by a test.
        assert {one.severity for one in found if "dead rows" not in one.text} == {"ok"}

    def test_is_not_fit_if_it_stores_no_row(self):
        """Failed: the statement changed no row, which also succeeds on a full disk."""

        def refuse(
            execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
        ) -> Any:
            if sql.startswith("INSERT"):
                raise OperationalError("database or disk is full")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(refuse):
            first, *others = database.examine(using="default")

        assert (first.severity, first.text) == (
            "error",
            "A row could not be stored: OperationalError: database or disk is full.",
        )
        assert first.advice.startswith("Free space on its disk")
        assert others

    @pytest.mark.sqlite
    @pytest.mark.django_db(transaction=True)
    def test_is_not_fit_if_its_file_may_not_grow(self, shard: str):
        """A small row fits into a page that the file has already."""
        with connections[shard].cursor() as cursor:
            cursor.execute("VACUUM")  # no page is free
            cursor.execute("PRAGMA max_page_count = 1")  # SQLite sets the present number

        [found] = [one for one in database.examine(using=shard) if one.severity == "error"]

        assert found.text == (
            "A row could not be stored: OperationalError: database or disk is full."
        )

    def test_keeps_no_row_of_an_examination(self):
        list(database.examine(using="default"))

        assert not Heartbeat.objects.exists()

    @pytest.mark.postgresql
    def test_waits_for_no_standby(self):
        """The commit would wait for ever for a synchronous standby that is lost."""
        database._write(using="default")

        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("local",)

    def test_lacks_a_migration(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: no finding named `migrate`. Other parts quoted errors of SQL."""
        assert "migrations" not in {one.part for one in examine_without_broker()}
        monkeypatch.setattr(database, "first_unapplied", {"default": "0099_later"}.get)

        [found] = [one for one in examine_without_broker() if one.part == "migrations"]

        assert (found.severity, found.text, found.advice) == (
            "error",
            "The database default lacks migrations of the outbox, from 0099_later on.",
            "Run `manage.py migrate`.",
        )

    @pytest.mark.postgresql
    @pytest.mark.django_db(transaction=True)
    def test_does_not_vouch_for_transactions_that_it_may_not_see(self):
        with in_another_transaction("SELECT 1"), acting_as_visitor() as role:
            [found] = about_long_transactions()

        assert found.severity == "ok"
        assert found.text.startswith("No transaction that this role sees is open for more than 5")
        assert found.text.endswith(f"GRANT pg_read_all_stats TO {role}.")

    @pytest.mark.postgresql
    @pytest.mark.django_db(transaction=True)
    def test_must_not_read_old_snapshots(self):
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'repeatable read'")
        try:
            found = list(database.examine(using="default"))
        finally:
            connection.close()

        [isolation] = [one for one in found if one.severity == "error"]
        assert "Its transactions are REPEATABLE READ" in isolation.text

    @pytest.mark.postgresql
    def test_has_a_transaction_that_is_open_for_long(self, monkeypatch: pytest.MonkeyPatch):
        # This test's own transaction, taken for another's that is old.
        text = database._LONG.replace("pid <> pg_backend_pid()", "pid = pg_backend_pid()")
        text = text.replace("< now() - interval '5 minutes'", "<= now()")
        monkeypatch.setattr(database, "_LONG", text)

        assert [one.severity for one in about_long_transactions()] == ["warning"]

    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        ("query", "severity"),
        [
            ("autovacuum: VACUUM public.outbox_event (to prevent wraparound)", "ok"),
            ("vacuum (analyze) outbox_event", "ok"),
            ("VACUUM FULL outbox_event", "warning"),
            ("CREATE INDEX CONCURRENTLY ON outbox_event (key)", "warning"),
            ("SELECT count(*) FROM vacuum_cleaners", "warning"),
        ],
    )
    def test_may_have_a_long_vacuum(self, query: str, severity: str):
        """Failed: a vacuum of a large table was a transaction that prevents vacuum."""
        with connection.cursor() as cursor:
            # A temporary table is found before the view of its name.
            view = "CREATE TEMPORARY TABLE pg_stat_activity AS SELECT * FROM pg_stat_activity"
            cursor.execute(f"{view} WHERE false")
            cursor.execute(
                "INSERT INTO pg_stat_activity (datname, pid, state, xact_start, query) "
                "VALUES (current_database(), 0, 'active', now() - interval '20 minutes', %s)",
                [query],
            )

        [found] = about_long_transactions()

        assert found.severity == severity


QUEUES = {"outbox", "tests"}


class TestTheQueues:
    """With workers and a broker: tests/chaos/test_heartbeats.py."""

    def test_are_ok_if_each_canary_is_answered(self, outbox, monkeypatch, db):
        """Seen to fail with a canary that answers nothing."""
        set_celery(monkeypatch, "task_always_eager", True)

        found = processes.examine_queues(QUEUES, timeout=20, using="default")

        assert {(one.part, one.severity) for one in found} == {
            ("queue outbox", "ok"),
            ("queue tests", "ok"),
        }
        assert not Heartbeat.objects.exists()

    def test_are_not_ok_if_a_worker_runs_and_consumes_nothing(self, outbox, monkeypatch, db):
        """Seen to fail with a doctor that believes heartbeats."""
        set_celery(monkeypatch, "broker_write_url", "memory://")
        monkeypatch.setattr(current_app.amqp, "_producer_pool", None)
        now = timezone.now()
        Heartbeat.objects.create(
            kind="worker", name="w1", queues=["outbox", "tests"], started_at=now, seen_at=now
        )

        found = list(processes.examine_queues(QUEUES, timeout=0.1, using="default"))

        assert [one.severity for one in found] == ["error", "error"]
        assert all("it no longer consumes" in one.text for one in found)


class TestOwedDeliveries:
    def test_are_none_in_a_fresh_outbox(self, outbox: Outbox):
        assert [one.severity for one in owed.examine(using="default")] == ["ok"]

    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (1, "1 delivery of tests.invoice is dead."),
            (2, "2 deliveries of tests.invoice are dead."),
        ],
    )
    def test_name_dead_deliveries(self, outbox: Outbox, number: int, said: str):
        failed(outbox, number)

        found = severities(list(owed.examine(using="default")))

        assert found[said] == "warning"

    def test_name_handlers_and_events_that_this_code_does_not_have(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()
        subscriptions.registry[:] = [one for one in subscriptions.registry if "weigh" in one.name]
        events.registry.pop("parcels.ParcelSent", None)

        found = severities(list(owed.examine(using="default")))

        assert (
            found["tests.invoice has owed deliveries, but this code has no such handler."]
            == "error"
        )
        assert [
            text
            for text in found
            if "tests.weigh has owed deliveries of parcels.ParcelSent" in text
        ]

    def test_name_a_handler_that_lags(self, outbox: Outbox):
        """Failed: "ok", although the alert about the lag refers to the doctor."""
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()
        late = Delivery.objects.filter(subscription__handler="tests.weigh").latest("pk")
        now = timezone.now()
        Delivery.objects.update(state="pending", due_at=now - timedelta(minutes=4))
        Delivery.objects.filter(pk=late.pk).update(due_at=now - timedelta(minutes=10))

        found = {one.text: one for one in owed.examine(using="default") if "lags" in one.text}

        [(text, finding)] = found.items()
        assert text.startswith("tests.weigh lags: a delivery has been due for 10 min")
        assert finding.severity == "warning"
        assert f"`manage.py outbox why {late.pk}` names the cause" in finding.advice
        assert "a full window or share of the handler" in finding.advice

    def test_name_no_lag_of_a_paused_handler(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()
        ten_minutes_ago = timezone.now() - timedelta(minutes=10)
        Delivery.objects.update(state="pending", due_at=ten_minutes_ago)
        for handler in ("tests.invoice", "tests.weigh"):
            operations.pause(handler, by="cli:ann", reason="a test")

        assert not [one for one in owed.examine(using="default") if "lags" in one.text]

    def test_name_an_unfinished_operation(self, outbox: Outbox):
        operations.pause("tests.invoice", by="cli:ann", reason="a test")
        Operation.objects.update(state="running", seen_at=F("started_at") - timedelta(hours=1))

        (found,) = owed.examine(using="default")

        assert f"continue {Operation.objects.get().pk}" in found.advice


class TestOwedDeliveriesOfAStoppedHandler:
    """Failed: "ok" beside all of these."""

    def found(self) -> dict[str, Finding]:
        """All findings, but that no class declares the event of these tests."""
        found = {one.text: one for one in owed.examine(using="default")}
        return {text: one for text, one in found.items() if "does not declare" not in text}

    def test_count_parked_deliveries_and_name_the_user_who_paused(self, outbox: Outbox):
        for _ in range(2):
            outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        operations.pause("tests.invoice", by="cli:ann", reason="the printer is broken.")
        run_pass()
        at = Subscription.objects.get(handler="tests.invoice").paused_at

        [finding] = self.found().values()

        assert at is not None
        since = format_time(at)
        assert finding.severity == "warning"
        assert finding.text == (
            f"tests.invoice is paused by cli:ann since {since}. Waiting: 2 deliveries (2 parked)."
        )
        assert "`manage.py outbox resume tests.invoice`" in finding.advice

    def test_count_waiting_deliveries_that_are_not_parked_yet(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()
        Delivery.objects.update(state="pending")
        operations.pause("tests.invoice", by="cli:ann", reason="a test")

        [text] = self.found()

        assert "Waiting: 1 delivery (1 pending)." in text

    def test_leave_the_pause_of_a_backfill_to_it(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        now = timezone.now()
        backfill = Operation.objects.create(
            action="backfill",
            choice={"handler": "tests.invoice"},
            by="cli:ann",
            started_at=now,
            seen_at=now,
        )
        paused = {"paused_at": now, "paused_by": f"backfill:{backfill.pk}"}
        Subscription.objects.filter(handler="tests.invoice").update(**paused)
        run_pass()

        [finding] = self.found().values()

        assert "resume tests.invoice" not in finding.advice
        assert f"`manage.py outbox continue {backfill.pk}`" in finding.advice

    def test_count_deliveries_parked_since_another_release_was_migrated(self, outbox: Outbox):
        Subscription.objects.filter(handler="tests.invoice").update(known=False)
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()

        [finding] = self.found().values()

        assert finding.text == (
            "1 delivery of tests.invoice is parked: the release that was migrated last no longer "
            "subscribes it to parcels.ParcelSent."
        )
        assert "`manage.py migrate`" in finding.advice

    def test_name_an_open_breaker_and_its_waiting_deliveries(self, outbox: Outbox):
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())
        run_pass()
        Delivery.objects.filter(subscription__handler="tests.weigh").update(state="pending")
        opened = self.open_the_breaker()

        [finding] = self.found().values()

        assert finding.severity == "warning"
        assert finding.text == (
            f"The breaker of tests.weigh is open since {format_time(opened)}. The "
            f"next probe is due at {format_time(opened + timedelta(minutes=1))}. "
            "Waiting: 1 delivery (1 pending)."
        )
        assert "outbox close-breaker tests.weigh --reason" in finding.advice

    def test_name_an_open_breaker_for_which_nothing_waits(self, outbox: Outbox):
        self.open_the_breaker()

        [text] = self.found()

        assert text.endswith("Waiting: no delivery.")

    def test_promise_no_probe_of_a_paused_handler(self, outbox: Outbox):
        self.open_the_breaker()
        operations.pause("tests.weigh", by="cli:ann", reason="a test")

        [text] = self.found()

        assert "No probe is sent while the handler is paused" in text

    def test_pass_over_the_breaker_of_a_subscription_that_has_ended(self, outbox: Outbox):
        self.open_the_breaker()
        Subscription.objects.filter(handler="tests.weigh").update(active=False)

        assert [one.severity for one in self.found().values()] == ["ok"]

    def open_the_breaker(self) -> datetime:
        at = timezone.now()
        Subscription.objects.filter(handler="tests.weigh").update(
            breaker_opened_at=at,
            breaker_probe_at=at + timedelta(minutes=1),
            breaker_reason="BankDown: no answer",
        )
        return at


def died_at_last(row: Delivery) -> None:
    """Let a delivery's worker have died in its latest attempt."""
    old = row.failures.get()
    Attempt.objects.create(
        delivery=row, number=2, started_at=old.started_at, ended_at=old.ended_at,
        outcome="died", exception="", place="",
    )  # fmt: skip


class TestGroups:
    def test_are_by_handler_exception_and_place_and_retried_by_their_command(self, outbox: Outbox):
        failed(outbox, 3)

        found = json.loads(outbox_command("groups", "--json"))
        said = outbox_command("groups")

        assert [(one["handler"], one["exception"], one["number"]) for one in found] == [
            ("tests.invoice", "ValueError", 3),
            ("tests.weigh", "KeyError", 3),
        ]
        assert found[0]["place"].startswith("tests.outbox.test_doctor:")
        assert Delivery.objects.filter(pk=found[0]["example"], state="dead").exists()
        assert found[0]["retry"] in said
        assert "3 deliveries made due." in outbox_command(*words(found[0]["retry"]))
        assert set(Delivery.objects.filter(state="dead").values_list("subscription__handler")) == {
            ("tests.weigh",)
        }

    def test_count_the_latest_attempt_alone(self, outbox: Outbox):
        failed(outbox, 1)
        died_at_last(Delivery.objects.get(subscription__handler="tests.invoice"))

        found = json.loads(outbox_command("groups", "--json"))

        assert [(one["handler"], one["exception"], one["number"]) for one in found] == [
            ("tests.invoice", "", 1),
            ("tests.weigh", "KeyError", 1),
        ]

    def test_of_workers_that_died_are_retried_without_those_that_raised(self, outbox: Outbox):
        """Seen to fail with "no exception" taken for "whatever it raised"."""
        failed(outbox, 2)
        died, raised = Delivery.objects.filter(subscription__handler="tests.invoice")
        died_at_last(died)
        groups = json.loads(outbox_command("groups", "--json"))
        (command,) = [one["retry"] for one in groups if not one["exception"]]

        assert "1 delivery made due." in outbox_command(*words(command))

        states = Delivery.objects.in_bulk([died.pk, raised.pk])
        assert (states[died.pk].state, states[raised.pk].state) == ("pending", "dead")

    def test_are_empty_without_dead_letters(self, outbox: Outbox):
        assert outbox_command("groups") == "No delivery is failing or dead.\n"


class TestBlocked:
    @pytest.fixture
    def dead(self, outbox: Outbox) -> Delivery:
        """The dead delivery that blocks a key."""
        first, second = (outbox.given("parcels.ParcelSent", parcel_id=uuid4()) for _ in range(2))
        run_pass()
        Subscription.objects.filter(handler="tests.weigh").update(ordered=True)
        mine = Delivery.objects.filter(subscription__handler="tests.weigh")
        mine.update(order_key="order-7")
        mine.filter(event=first).update(state="dead")
        mine.filter(event=second).update(state="blocked")
        return mine.get(event=first)

    def test_names_the_key_and_the_delivery_that_blocks_it(self, dead: Delivery):
        lines = outbox_command("blocked").splitlines()

        assert lines[0] == "order-7 of tests.weigh: 1 delivery blocked"
        assert lines[1].startswith(f"    by delivery {dead.pk} (dead): Dead after")

    def test_has_the_state_in_the_language_of_the_user(self, dead: Delivery):
        """Failed: the state was English."""
        with translation.override("ja"):
            said = outbox_command("blocked")

        assert "(デッド)" in said

    def test_is_empty_if_no_key_waits(self):
        assert outbox_command("blocked") == "No key is blocked.\n"


def words(command: str) -> list[str]:
    """The arguments of a printed command, after `manage.py outbox`."""

    return shlex.split(command)[2:]
