"""Metrics and alerts beside a database that does not answer, such as a frozen server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import RequestFactory
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from outbox import DomainEvent, databases, emit, subscribe
from outbox.alerts.watch import Watch
from outbox.counting import counters
from outbox.metrics import Family, asking, each_database, families, metrics
from outbox.models import Alert, Counter, Event
from tests.link import Link
from tests.outbox.alerts.world import alerts
from tests.outbox.two_databases import BOTH, SHARD, sync_both
from tests.processes import eventually
from tests.threads import PATIENCE, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-token-that-only-the-scraper-knows"


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


@pytest.fixture(autouse=True)
def _waiting_in_both(shard: str, settings: Settings) -> None:
    """Let an event wait in each database."""

    @subscribe("tests.ParcelMoved")
    def move(parcel_id: UUID) -> None: ...

    settings.OUTBOX = {**settings.OUTBOX, "METRICS_TOKEN": TOKEN}
    sync_both()
    for using in BOTH:
        with transaction.atomic(using=using):
            emit(ParcelMoved(parcel_id=uuid4()))


class Silence:
    """Threads that wait for a silent database.

    Attributes:
        asked: number of new connections that were not answered.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.waiting: set[threading.Thread] = set()
        self.over = threading.Event()

    def wait(self) -> None:
        self.asked += 1
        self.waiting.add(threading.current_thread())
        self.over.wait(PATIENCE)
        self.waiting.remove(threading.current_thread())


@contextmanager
def silent(using: str) -> Iterator[Silence]:
    """Let no new connection to a database be answered within the block, in any thread.

    A scrape that waits for such a thread acts as after its time limit.
    """
    connect, silence = BaseDatabaseWrapper.connect, Silence()

    def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.alias == using and not silence.over.is_set():
            silence.wait()
            raise OperationalError("timeout expired")
        return connect(self, *args, **kwargs)

    def join(self: Any, timeout: float | None = None) -> None:
        eventually(lambda: not self.is_alive() or self in silence.waiting, "an answer")
        if self in silence.waiting:
            self.asked_at -= each_database.SECONDS

    connections[using].close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "connect", wait)
        patch.setattr(asking._Question, "join", join)
        try:
            yield silence
        finally:
            silence.over.set()
            eventually(lambda: not silence.waiting, "the end of the threads that asked")


def numbers_of(found: list[Family], name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for one in found if one.name == name for labels, value in one.samples}


def are_up() -> bool:
    found = numbers_of(families(only=["outbox_database_up"]), "outbox_database_up")
    return found == {("default",): 1, (SHARD,): 1}


def scrape(**options: Any) -> HttpResponse:
    request = RequestFactory().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    return metrics(request, **options)


class TestAScrape:
    def test_has_the_numbers_of_the_others(self):
        """Failed: it waited for the database that was asked first."""
        with silent("default") as silence:
            found = families()
            assert silence.waiting, "The scrape has not waited for the answer."

        assert numbers_of(found, "outbox_database_up") == {("default",): 0, (SHARD,): 1}
        assert numbers_of(found, "outbox_waiting_events") == {(SHARD,): 1}

    def test_starts_no_thread_while_an_earlier_one_waits(self):
        with silent("default") as silence:
            for _ in range(3):
                found = numbers_of(families(), "outbox_database_up")
                assert found == {("default",): 0, (SHARD,): 1}
            assert silence.asked == 1

    def test_has_all_numbers_when_the_database_answers_again(self):
        with silent("default"):
            families()

        eventually(are_up, "both databases are up")
        found = numbers_of(families(), "outbox_waiting_events")
        assert found == {("default",): 1, (SHARD,): 1}
        assert Event.objects.count() == 1, "The connection of this thread is usable."

    def test_closes_its_connections(self):
        made: list[Any] = []

        def note(*, connection: Any, **_options: Any) -> None:
            made.append(connection)

        connection_created.connect(note)
        try:
            families()
        finally:
            connection_created.disconnect(note)

        assert {one.alias for one in made} == set(BOTH)
        assert all(one.connection is None for one in made)

    def test_names_the_silent_database_in_the_log(self, caplog: pytest.LogCaptureFixture):
        with silent(SHARD), caplog.at_level(logging.WARNING, "outbox.metrics"):
            families()

        assert f"of the database {SHARD} cannot be read: no answer within 5 s" in caplog.text

    def test_raises_what_is_no_error_of_a_database(self, monkeypatch: pytest.MonkeyPatch):
        def fail(*_args: Any, **_options: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("outbox.metrics.each_database.families_of", fail)

        with pytest.raises(ZeroDivisionError):
            families()

    def test_stores_the_counts_of_the_others(self):
        """Failed: the counts of all databases were stored first, one after the other."""
        for using in BOTH:
            with databases.working_on(using):
                counters.count("messages", using)
        with silent("default") as silence:
            scrape()
            assert silence.waiting
            assert list(Counter.objects.using(SHARD).values_list("label", flat=True)) == [SHARD]
        eventually(are_up, "both databases are up")
        scrape()
        assert list(Counter.objects.values_list("label", flat=True)) == ["default"]

    def test_opens_no_transaction(self, shard: str):
        """ATOMIC_REQUESTS would begin one in the silent database before the view."""
        assert vars(metrics)["_non_atomic_requests"] >= set(connections.settings) - {shard}


class TestThePage:
    def test_has_the_numbers_of_the_others_without_those_of_the_project(self):
        def of_the_default_database() -> list[Family]:
            number = Event.objects.count()
            return [Family("project_events", "gauge", "Events.", samples=[((), number)])]

        with silent("default") as silence:
            answer = scrape(more=of_the_default_database)
            assert silence.waiting
        names = {one.name for one in text_string_to_metric_families(answer.content.decode())}
        assert "outbox_waiting_events" in names
        assert "project_events" not in names

        eventually(are_up, "both databases are up")
        answer = scrape(more=of_the_default_database)
        assert b"project_events 1.0" in answer.content


class TestAQuestion:
    def test_has_no_answer_after_the_time_limit(self):
        over = threading.Event()

        def wait() -> int:
            over.wait(PATIENCE)
            return 7

        answers = asking.ask_each({"default": wait}, seconds=0.01)
        assert not over.is_set()
        over.set()
        eventually(lambda: not asking._latest["default"].is_alive(), "the end of the thread")

        assert answers == {}
        assert asking.ask_each({"default": wait}, seconds=PATIENCE) == {"default": 7}

    def test_that_fails_fails_after_the_end_of_the_others(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: a question that was not waited for was never late. Each later scrape waited."""
        ended, join = set[str](), asking._Question.join

        def note(self: Any, timeout: float | None = None) -> None:
            join(self, timeout)
            ended.add(self.name)

        def fail() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(asking._Question, "join", note)
        with pytest.raises(ZeroDivisionError):
            asking.ask_each({"failing": fail, "default": lambda: None}, seconds=PATIENCE)

        assert ended == {"outbox-metrics-failing", "outbox-metrics-default"}

    def test_is_late_by_its_age_although_nobody_has_waited_for_it(self):
        over = threading.Event()
        started = asking._started("default", lambda: over.wait(PATIENCE))
        try:
            started.asked_at -= PATIENCE

            assert asking.ask_each({"default": lambda: True}, seconds=PATIENCE) == {}
        finally:
            over.set()
            started.join()


class Noted(threading.Condition):
    """A condition that counts how often it was waited for."""

    waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        return super().wait(timeout)


class TestTwoScrapesAtTheSameTime:
    @pytest.fixture
    def ended(self, monkeypatch: pytest.MonkeyPatch) -> Noted:
        noted = Noted()
        monkeypatch.setattr(asking, "_ended", noted)
        return noted

    def test_have_all_answers(self, ended: Noted):
        """Two servers of Prometheus scrape one address."""
        answered = threading.Event()

        def ask() -> int:
            answered.wait(PATIENCE)
            return 7

        ends = [
            in_thread(lambda: asking.ask_each({"default": ask}, seconds=PATIENCE)) for _ in range(2)
        ]
        eventually(lambda: ended.waits, "one waits for the thread of the other")
        answered.set()

        assert [end() for end in ends] == [{"default": 7}] * 2

    def test_have_the_answers_of_all_but_the_silent_one(self, ended: Noted):
        """Failed: the second one waited for the silent database before it asked the others."""
        over, is_asked = threading.Event(), threading.Event()

        def answer() -> int:
            is_asked.set()
            return 7

        silent_one = {"silent": lambda: over.wait(PATIENCE)}
        first = in_thread(lambda: asking.ask_each(silent_one, seconds=PATIENCE))
        eventually(lambda: "silent" in asking._latest, "the first scrape")
        both = {**silent_one, "answering": answer}
        second = in_thread(lambda: asking.ask_each(both, seconds=PATIENCE))
        eventually(lambda: ended.waits, "the second scrape waits")

        assert is_asked.is_set()
        over.set()
        first()
        assert second() == {"silent": True, "answering": 7}


class TestTheWatchOfAlerts:
    def test_goes_on_while_the_dead_mans_ping_waits(self, caplog: pytest.LogCaptureFixture):
        """Failed: the ping read all databases in the thread that checks and sends."""
        watch = Watch(alerts(DEAD_MAN={"URL": "https://pings.example"}), using="default")
        with silent(SHARD) as silence:
            watch.look()
            eventually(lambda: silence.waiting, "the ping asks the silent database")

            watch.look()

            assert {one.name for one in silence.waiting} == {"outbox-alerts dead man"}
            assert Alert.objects.filter(problem="silent:relay:").exists()
        watch.wait()

        assert f"database {SHARD} (timeout expired)" in caplog.text


@pytest.mark.postgresql
class TestAFrozenServer:
    def test_delays_no_other_one(self, shard: str):
        given = connections.settings[shard]
        with Link((given["HOST"], int(given["PORT"]))) as link:
            linked = {**given, "HOST": "127.0.0.1", "PORT": link.port}
            connections.settings[shard] = linked
            try:
                families()
                link.silence()
                found = families()
                link.mend()
                eventually(are_up, "both databases are up")
            finally:
                connections.settings[shard] = given

        assert numbers_of(found, "outbox_database_up") == {("default",): 1, (shard,): 0}
        assert numbers_of(found, "outbox_waiting_events") == {("default",): 1}
