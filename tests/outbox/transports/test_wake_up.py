"""What wakes a process without a broker: NOTIFY on PostgreSQL, the file's version on SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection, connections, transaction

from outbox import DomainEvent, databases, emit
from outbox.transports import commits, notifications
from outbox.transports import nudge as nudge_module
from outbox.transports.commits import CommitWatcher
from outbox.transports.notifications import Listener, can_listen
from outbox.transports.nudge import nudge
from tests.link import Link
from tests.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)


class Rung(DomainEvent, key="bell_id"):
    bell_id: UUID


class Woken(list[int]):
    """Counts how often a relay was woken."""

    def wake(self) -> None:
        self.append(1)

    def wait_for(self, number: int) -> None:
        eventually(lambda: len(self) >= number, f"woken {number} times")


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture(autouse=True)
def _local(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The transport without a broker, and a new thread of nudges."""
    settings.OUTBOX = {**settings.OUTBOX, "TRANSPORTS": ["local"], "NUDGE": True}
    monkeypatch.setattr(nudge_module, "_nudger", nudge_module._Nudger())
    yield
    if connection.vendor == "postgresql":
        cut("NOTIFY %")


def value(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def cut(query: str) -> None:
    """End the sessions whose last statement was like this."""
    value(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '{query}'"
    )


@contextmanager
def running(helper: Listener | CommitWatcher, stopping: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=helper.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(60)


@contextmanager
def listening(woken: Woken) -> Iterator[Listener]:
    stopping = threading.Event()
    listener = Listener(woken.wake, stopping=stopping, using=databases.alias())
    with running(listener, stopping):
        woken.wait_for(1)  # it nudges once when it listens
        yield listener


@pytest.mark.postgresql
class TestAListener:
    def test_is_woken_by_a_commit_of_another_connection(self, woken: Woken):
        """Seen to fail without LISTEN."""
        with listening(woken):
            with transaction.atomic():
                emit(Rung(bell_id=uuid4()))
                assert len(woken) == 1

            woken.wait_for(2)

    def test_listens_again_after_its_connection_was_cut(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail without the loop in `run`."""
        monkeypatch.setattr(notifications, "_PAUSE_SECONDS", 0.05)
        with listening(woken):
            cut("LISTEN %")
            woken.wait_for(2)

            nudge()

            woken.wait_for(3)

    def test_listens_again_if_its_network_is_silent(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to hang without a time limit: its session waits a quarter of an hour."""
        monkeypatch.setattr(notifications, "_PAUSE_SECONDS", 0.05)
        monkeypatch.setattr(notifications, "_ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(notifications, "_WAIT_SECONDS", 0.05)
        monkeypatch.setattr(notifications, "_LOOK_SECONDS", 0.1)
        server = connection.get_connection_params()
        with Link((server.get("host", "127.0.0.1"), int(server.get("port", 5432)))) as link:
            host = {"host": "127.0.0.1", "port": link.port}
            listening_at = notifications._listening

            def through_link(using: str, channel: str) -> Any:
                parameters = connections[using].get_connection_params
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        connections[using], "get_connection_params", lambda: parameters() | host
                    )
                    return listening_at(using, channel)

            monkeypatch.setattr(notifications, "_listening", through_link)
            with listening(woken):
                link.silence()
                monkeypatch.setattr(notifications, "_listening", listening_at)

                woken.wait_for(2)

    def test_goes_on_while_a_silent_server_answers(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(notifications, "_WAIT_SECONDS", 0.05)
        monkeypatch.setattr(notifications, "_LOOK_SECONDS", 0.0)
        looked: list[int] = []
        require = notifications._require_answer

        def count(session: Any) -> None:
            require(session)
            looked.append(1)

        monkeypatch.setattr(notifications, "_require_answer", count)
        with listening(woken):
            eventually(lambda: len(looked) > 5, "it has looked")
            assert len(woken) == 1

            nudge()

            woken.wait_for(2)

    def test_tries_again_after_it_could_not_listen(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail if the first answer holds for ever."""
        answers = iter([False])
        monkeypatch.setattr(notifications, "can_listen", lambda using: next(answers, True))
        monkeypatch.setattr(notifications, "_AGAIN_SECONDS", 0.05)

        with listening(woken) as listener:
            assert listener.listens

    def test_polls_where_no_notification_arrives(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        """As behind PgBouncer, see tests/chaos/test_on_postgresql.py."""
        monkeypatch.setattr(notifications, "can_listen", lambda using: False)
        stopping = threading.Event()
        listener = Listener(woken.wake, stopping=stopping, using=databases.alias())

        with running(listener, stopping):
            eventually(lambda: listener.listens is False, "it knows")

        assert "passes on no notification" in caplog.text
        assert not woken

    def test_finds_out_that_notifications_arrive(self):
        assert can_listen(databases.alias())


@pytest.mark.postgresql
class TestANudgeThroughPostgreSQL:
    def test_is_no_part_of_the_transaction(self):
        """In it, NOTIFY lets transactions commit only one after the other."""
        statements: list[str] = []

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            statements.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(note), transaction.atomic():
            emit(Rung(bell_id=uuid4()))

        assert statements
        assert not [sql for sql in statements if "NOTIFY" in sql]

    def test_is_sent_again_after_its_connection_was_cut(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(nudge_module, "_PAUSE_AFTER_FAILURE", 0.05)
        with listening(woken):
            nudge()
            woken.wait_for(2)
            cut("NOTIFY %")

            def is_woken() -> bool:
                nudge()
                return len(woken) > 2

            eventually(is_woken, "a later nudge arrives")


class TestAnEventOfAHandler:
    def test_nudges_the_relay_of_its_process_and_no_other_one(self, woken: Woken):
        """Seen to fail without `_own_relay`: it would wait for the database."""

        def own(_database: str) -> bool:
            woken.wake()
            return True

        nudge_module.attach(own)
        try:
            with transaction.atomic():
                emit(Rung(bell_id=uuid4()))
        finally:
            nudge_module.attach(None)

        assert len(woken) == 1
        assert nudge_module._nudger._thread is None


@pytest.mark.sqlite
class TestACommitWatcher:
    def test_is_woken_by_an_event_of_another_connection(self, woken: Woken):
        """Seen to fail without `data_version`."""
        stopping = threading.Event()
        with running(CommitWatcher(woken.wake, stopping=stopping, using="default"), stopping):
            with transaction.atomic():
                emit(Rung(bell_id=uuid4()))

            woken.wait_for(1)

    def test_looks_again_after_a_look_that_failed(
        self, woken: Woken, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail if it notes the version of a change at which it could not look."""
        monkeypatch.setattr(commits, "_PAUSE_SECONDS", 0.05)
        has_waiting, failed = CommitWatcher._has_waiting, list[int]()

        def fail_once(watcher: CommitWatcher) -> bool:
            if has_waiting(watcher) and not failed:
                failed.append(1)
                raise OperationalError("database is locked")
            return has_waiting(watcher)

        monkeypatch.setattr(CommitWatcher, "_has_waiting", fail_once)
        stopping = threading.Event()
        with running(CommitWatcher(woken.wake, stopping=stopping, using="default"), stopping):
            with transaction.atomic():
                emit(Rung(bell_id=uuid4()))

            woken.wait_for(1)

        assert failed

    def test_is_not_woken_by_a_commit_without_an_event(self, woken: Woken):
        stopping = threading.Event()
        watcher = CommitWatcher(woken.wake, stopping=stopping, using="default")
        try:
            watcher._version()
            value("SELECT 1")

            assert not watcher._has_waiting()
        finally:
            connections.close_all()


@pytest.mark.postgresql
class TestTheThreadOfNudges:
    def test_closes_its_connection_if_it_is_not_used(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail without `_close`: each web process keeps a session for ever."""
        closed: list[int] = []
        close = notifications.NotifyTransport.close

        def closing(transport: notifications.NotifyTransport) -> None:
            close(transport)
            closed.append(1)

        monkeypatch.setattr(notifications.NotifyTransport, "close", closing)
        monkeypatch.setattr(nudge_module, "_IDLE_SECONDS", 0.05)

        nudge()

        eventually(lambda: closed, "it closes the session")
