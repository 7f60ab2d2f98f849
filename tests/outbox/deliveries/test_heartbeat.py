"""Heartbeats are cheap, and never raise an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from celery import current_app, signals
from celery.beat import Service
from django.db import DatabaseError, connection
from django.db.models import F
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from outbox.deliveries import heartbeat
from outbox.models import Heartbeat
from outbox.monitor.health import Heartbeats
from outbox.relay import loop
from outbox.tasks import run_relay
from tests.outbox.relays import relay_loop
from tests.processes import eventually

Kind = Heartbeat.Kind


@pytest.fixture(autouse=True)
def _fresh(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as a process that has written no heartbeat yet."""
    monkeypatch.setattr(heartbeat, "_written", {})
    monkeypatch.setattr(heartbeat, "_started", {})


def age_heartbeats(**length: float) -> None:
    Heartbeat.objects.update(seen_at=F("seen_at") - timedelta(**length))
    heartbeat._written.clear()


class TestAHeartbeat:
    def test_updates_one_row(self):
        heartbeat.beat(Kind.WORKER, "w1", queues=["mail"])
        age_heartbeats(minutes=5)

        heartbeat.beat(Kind.WORKER, "w1", queues=["mail", "bank"])

        row = Heartbeat.objects.get()
        assert row.queues == ["bank", "mail"]
        assert Heartbeats().latest(Kind.WORKER, queue="bank").is_fresh
        assert not Heartbeats().latest(Kind.WORKER, queue="stock").is_fresh

    def test_is_written_only_at_its_interval(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        """Without the limit an idle relay writes once a second."""
        heartbeat.beat(Kind.RELAY, "r1")

        with django_assert_num_queries(0):
            for _ in range(100):
                heartbeat.beat(Kind.RELAY, "r1")

    def test_stores_at_once_that_a_relay_fails_and_that_it_works_again(
        self, django_assert_num_queries: DjangoAssertNumQueries
    ):
        """Seen to fail: an outage that was over stayed in the row for an interval."""
        heartbeat.beat(Kind.RELAY, "r1")
        heartbeat.beat(Kind.RELAY, "r1", failure="ValueError: 1")
        assert Heartbeat.objects.get().failure == "ValueError: 1"

        with django_assert_num_queries(0):
            heartbeat.beat(Kind.RELAY, "r1", failure="ValueError: 2")

        heartbeat.beat(Kind.RELAY, "r1")
        assert Heartbeat.objects.get().failure == ""

    def test_costs_one_statement(self, django_assert_num_queries: DjangoAssertNumQueries):
        heartbeat.beat(Kind.RELAY, "r1")
        age_heartbeats(minutes=5)

        with django_assert_num_queries(1):
            heartbeat.beat(Kind.RELAY, "r1")

    def test_never_raises(self):
        asked: list[object] = []

        def fail(_execute: object, statement: object, *_others: object) -> None:
            asked.append(statement)
            raise DatabaseError("the disk is full")

        with connection.execute_wrapper(fail):
            heartbeat.beat(Kind.RELAY, "r1")

        assert asked

    def test_becomes_stale(self):
        heartbeat.beat(Kind.RELAY, "r1")
        age_heartbeats(seconds=40)

        sign = Heartbeats().latest(Kind.RELAY)

        assert sign.at is not None
        assert not sign.is_fresh

    def test_is_deleted_after_a_day_without_an_update(self):
        heartbeat.beat(Kind.RELAY, "r1")
        age_heartbeats(days=2)

        heartbeat.beat(Kind.RELAY, "r2")

        assert Heartbeat.objects.get().name == "r2"


@pytest.mark.django_db(transaction=True)
class TestAThread:
    """The heartbeat thread of a worker or of the relay, with its own connection."""

    def test_of_a_worker_names_its_queues(self):
        thread = heartbeat.HeartbeatThread("w1@host", lambda: ["mail"])

        with beating(thread):
            eventually(Heartbeat.objects.exists, "a heartbeat")

        row = Heartbeat.objects.get()
        assert (row.kind, row.name, row.queues) == (Kind.WORKER, "w1@host", ["mail"])

    def test_of_the_relay_writes_a_heartbeat_after_an_empty_pass(self, monkeypatch):
        monkeypatch.setattr(loop, "relay", lambda **_options: 0)
        thread = relay_loop("relay@host")

        with beating(thread):
            eventually(Heartbeat.objects.exists, "a heartbeat")

        row = Heartbeat.objects.get()
        assert (row.kind, row.name) == (Kind.RELAY, "relay@host")

    def test_of_the_relay_writes_a_heartbeat_although_every_pass_finds_work(self, monkeypatch):
        """Seen to fail with `is_wanted` that only looks whether it is to stop."""

        def find_work(*, is_wanted: Callable[[], bool], **_options: object) -> int:
            while is_wanted():
                time.sleep(0.01)
            return 0

        monkeypatch.setattr(loop, "relay", find_work)
        thread = relay_loop("relay@host")

        with beating(thread):
            eventually(Heartbeat.objects.exists, "a heartbeat")


@contextmanager
def beating(thread: heartbeat.HeartbeatThread | loop.RelayLoop) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        if isinstance(thread, heartbeat.HeartbeatThread):  # which nobody else waits for
            thread.join(60)


@pytest.mark.django_db(transaction=True)
class TestTheProcessOfBeat:
    def test_writes_heartbeats_from_its_start(self):
        """Celery sends the signal when beat starts, before its first task."""
        before = set(threading.enumerate())
        signals.beat_init.send(sender=Service(current_app))
        (thread,) = set(threading.enumerate()) - before
        assert isinstance(thread, heartbeat.HeartbeatThread)
        try:
            eventually(Heartbeat.objects.exists, "a heartbeat")
        finally:
            thread.stop()
            thread.join(60)

        seen, started_at = Heartbeats().process_of_beat()
        assert seen.is_fresh
        assert started_at is not None
        assert Heartbeat.objects.get().kind == Kind.BEAT

    def test_has_one_thread_if_it_runs_within_a_worker(self):
        """`worker -B` sends both signals. Seen to fail with a thread for each."""
        before = set(threading.enumerate())
        service = Service(current_app)
        signals.beat_init.send(sender=service)
        signals.beat_embedded_init.send(sender=service)
        started = set(threading.enumerate()) - before
        for thread in started:
            assert isinstance(thread, heartbeat.HeartbeatThread)
            thread.stop()
            thread.join(60)

        assert len(started) == 1

    def test_publishes_with_retries(self):
        """Only a retry renews beat's connection to RabbitMQ: tests/chaos/test_heartbeats.py."""
        current_app.conf.task_publish_retry = False
        before = set(threading.enumerate())

        signals.beat_init.send(sender=Service(current_app))

        for thread in set(threading.enumerate()) - before:
            assert isinstance(thread, heartbeat.HeartbeatThread)
            thread.stop()
            thread.join(60)
        assert current_app.conf.task_publish_retry is True


class TestCeleryBeat:
    def test_is_alive_when_its_task_arrives(self):
        run_relay()

        assert Heartbeats().latest(Kind.BEAT).is_fresh


class TestAHeartbeatOfTheFuture:
    """The clock of the database has gone back."""

    def test_shows_no_process_that_runs(self):
        """Seen to show a dead relay as running for a day."""
        now, later = timezone.now(), timezone.now() + timedelta(days=1)
        Heartbeat.objects.create(kind="relay", name="gone", started_at=later, seen_at=later)

        assert not Heartbeats().latest("relay").is_fresh
        assert not Heartbeats().has_working_relay()

        Heartbeat.objects.create(kind="relay", name="alive", started_at=now, seen_at=now)
        assert Heartbeats().latest("relay").name == "alive"
