"""The guards: each detects its error and names the line, and allows similar correct code.

Each `..._is_found` was seen to fail with its guard taken out of `start()`, or of `emit()`.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, chain
from django.db import connections, transaction

from outbox import DomainEvent, NotInTransaction, Receipt, emit, subscribe
from outbox.emission import EmittedBesideTransaction
from outbox.guards import guards_lifted
from outbox.guards.hooks import ConnectedInTransaction, SentInTransaction
from outbox.models import Attempt
from outbox.testing import Outbox
from tests.outbox.drive import emit_orders

ROOT = Path(__file__).parents[2]
HERE = "tests/outbox/test_guards.py"

app = Celery("guarded", broker="memory://", set_as_current=False)


@app.task(name="guarded.pack")
def pack() -> None: ...


class ParcelSent(DomainEvent, key="parcel_id"):
    """A parcel left the house."""

    parcel_id: UUID


def line_named(error: BaseException) -> str:
    """The line of this file that the error begins with."""
    path, line, _ = str(error).split(":", 2)
    assert path == HERE
    return Path(path).read_text().splitlines()[int(line) - 1].strip()


@pytest.mark.django_db
class TestATaskSentInsideATransaction:
    @pytest.mark.parametrize(
        "send",
        [
            lambda: pack.delay(),
            lambda: pack.apply_async(countdown=5),
            lambda: pack.si().delay(),
            lambda: chain(pack.si(), pack.si())(),
            lambda: app.send_task("guarded.pack"),
        ],
        ids=["delay", "apply_async", "signature", "chain", "send_task"],
    )
    def test_is_found(self, send: Callable[[], object]):
        with transaction.atomic(), pytest.raises(SentInTransaction) as found:
            send()

        assert line_named(found.value).startswith("lambda: ")
        assert "the task guarded.pack is sent inside a transaction" in str(found.value)
        assert "Call emit()" in str(found.value)

    def test_is_found_in_eager_mode(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(app.conf, "task_always_eager", True)

        with transaction.atomic(), pytest.raises(SentInTransaction) as found:
            pack.delay()

        assert line_named(found.value) == "pack.delay()"

    def test_is_allowed_in_a_project_that_did_not_ask(self, settings: Any):
        """A view of such a project, with ATOMIC_REQUESTS, sends tasks as before."""
        settings.OUTBOX = {}

        with transaction.atomic():
            pack.delay()

    def test_is_found_in_a_handler_of_each_project(self, settings: Any, own_registry: None):
        settings.OUTBOX = {}

        @subscribe("parcels.ParcelSent")
        def label() -> None:
            pack.delay()

        outbox = Outbox()
        outbox.given("parcels.ParcelSent", parcel_id=uuid4())

        with pytest.raises(SentInTransaction) as found:
            outbox.deliver_all()

        assert line_named(found.value) == "pack.delay()"

    def test_is_allowed_after_the_commit(self, django_capture_on_commit_callbacks: Any):
        with django_capture_on_commit_callbacks(execute=True) as called, transaction.atomic():
            transaction.on_commit(lambda: pack.delay())

        assert len(called) == 1

    @pytest.mark.django_db(transaction=True)
    def test_is_allowed_after_a_real_commit(self):
        sent: list[object] = []

        with transaction.atomic():
            transaction.on_commit(lambda: sent.append(pack.delay()))

        assert len(sent) == 1

    def test_is_allowed_within_the_transaction_of_a_test(self):
        assert pack.delay().id

    def test_is_allowed_in_another_thread(self):
        with transaction.atomic():
            thread = Thread(target=pack.delay)
            thread.start()
            thread.join()

    def test_is_allowed_if_the_guards_are_lifted(self):
        with transaction.atomic(), guards_lifted():
            assert pack.delay().id

    def test_that_is_applied_directly_is_not_sent(self):
        with transaction.atomic():
            pack.apply()


@pytest.fixture
def peer() -> Iterator[tuple[str, int]]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def deliver_one(*, raise_errors: bool = True) -> None:
    outbox = Outbox()
    outbox.given("tests.ParcelSent", parcel_id=uuid4())
    outbox.deliver_all(raise_errors=raise_errors)


@pytest.mark.usefixtures("own_registry")
class TestAConnectionInsideATransactionOfAHandler:
    def test_is_found_in_an_atomic_one(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            socket.create_connection(peer)

        with pytest.raises(ConnectedInTransaction) as found:
            deliver_one()

        assert line_named(found.value) == "socket.create_connection(peer)"
        assert f"tests.book connects to 127.0.0.1:{peer[1]} inside" in str(found.value)
        assert "atomic=False" in str(found.value)

    def test_is_found_in_a_receipt(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent", atomic=False)
        def book(parcel_id: UUID, receipt: Receipt) -> None:
            with receipt:
                socket.create_connection(peer)

        with pytest.raises(ConnectedInTransaction):
            deliver_one()

    def test_is_stored_as_the_failure_of_the_attempt(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            socket.create_connection(peer)

        deliver_one(raise_errors=False)

        assert Attempt.objects.get().exception == "ConnectedInTransaction"

    def test_is_allowed_before_the_receipt_and_after_it(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent", atomic=False)
        def book(parcel_id: UUID, receipt: Receipt) -> None:
            socket.create_connection(peer).close()
            with transaction.atomic():
                pass  # the intent
            with receipt:
                pass
            socket.create_connection(peer).close()

        deliver_one()

    def test_is_allowed_after_the_commit(
        self, peer: tuple[str, int], transactional_db: None, no_nudge: None
    ):
        connected: list[object] = []

        def connect() -> None:
            with socket.create_connection(peer) as connection:
                connected.append(connection.getpeername())

        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            transaction.on_commit(connect)

        deliver_one()

        assert connected == [peer]

    def test_is_allowed_in_another_thread(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            thread = Thread(target=lambda: socket.create_connection(peer).close())
            thread.start()
            thread.join()

        deliver_one()

    def test_is_allowed_on_the_same_host(self, tmp_path: Path):
        path = str(tmp_path / "s")  # a log, for example

        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            deliver_one()

    def test_is_allowed_for_a_database_driver(self, peer: tuple[str, int]):
        """PyMySQL is written in Python, and opens its connection on first use."""
        place = "/lib/django/db/backends/mysql/base.py"
        source = "def connect(peer): socket.create_connection(peer).close()"
        driver: dict[str, Any] = {"socket": socket}
        exec(compile(source, place, "exec"), driver)

        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            driver["connect"](peer)

        deliver_one()

    @pytest.mark.postgresql
    def test_is_allowed_for_postgresql(self, transactional_db: None):
        opened: list[bool] = []

        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            second = connections["default"].copy()
            second.connect()
            opened.append(second.is_usable())
            second.close()

        deliver_one()

        assert opened == [True]

    def test_is_allowed_if_the_guards_are_lifted(self, peer: tuple[str, int]):
        @subscribe("tests.ParcelSent")
        def book(parcel_id: UUID) -> None:
            with guards_lifted():
                socket.create_connection(peer).close()

        deliver_one()

    def test_is_allowed_outside_a_handler(self, peer: tuple[str, int]):
        with transaction.atomic():
            socket.create_connection(peer).close()


@pytest.fixture
def legacy(tmp_path: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A second database."""
    options = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3"}
    options |= {"NAME": str(tmp_path / "legacy.sqlite3"), "OPTIONS": {}}
    connections.settings["legacy"] = options
    connections["legacy"].connect()
    # Django forbids a test the databases that were not there when it began.
    monkeypatch.setattr(connections["legacy"], "ensure_connection", lambda: None)
    yield options
    connections["legacy"].close()
    del connections["legacy"], connections.settings["legacy"]


@pytest.mark.usefixtures("legacy")
class TestAnEventDuringATransactionOfAnotherDatabase:
    def test_is_found(self):
        with (
            transaction.atomic(),
            transaction.atomic(using="legacy"),
            pytest.raises(EmittedBesideTransaction) as found,
        ):
            emit(ParcelSent(parcel_id=uuid4()))

        assert line_named(found.value) == "emit(ParcelSent(parcel_id=uuid4()))"
        assert "emit() is called inside a transaction of 'legacy'" in str(found.value)

    def test_is_refused_without_the_guards_if_no_transaction_is_open_on_the_outbox(self):
        with (
            guards_lifted(),
            transaction.atomic(using="legacy"),
            pytest.raises(
                NotInTransaction, match="open on 'legacy', but the outbox is on 'default'"
            ),
        ):
            emit(ParcelSent(parcel_id=uuid4()))

    def test_is_allowed_after_that_transaction(self):
        with transaction.atomic():
            with transaction.atomic(using="legacy"):
                pass
            assert emit(ParcelSent(parcel_id=uuid4()))

    def test_is_allowed_in_a_view_with_atomic_requests(self, legacy: dict[str, Any]):
        legacy["ATOMIC_REQUESTS"] = True

        with transaction.atomic(using="legacy"), transaction.atomic():
            assert emit(ParcelSent(parcel_id=uuid4()))


class TestTheGuards:
    @pytest.mark.parametrize(
        ("debug", "wanted", "are_on"),
        [
            ("false", "None", False),
            ("true", "None", True),
            ("true", "False", False),
            ("false", "True", True),
        ],
    )
    def test_are_on_in_debug_or_by_the_setting(
        self, tmp_path: Path, debug: str, wanted: str, are_on: bool
    ):
        """Other projects get no wrapped function and no signal receiver."""
        (tmp_path / "guarded_settings.py").write_text(
            "from tests.outbox.project.settings import *\n"
            f"DEBUG = {debug.title()}\nOUTBOX = {{'GUARDS': {wanted}}}"
        )
        program = (
            "import django; django.setup()\n"
            "from celery import Celery, Task\n"
            "from django.db.models.signals import pre_save\n"
            "from tests.outbox.project.freight.models import Parcel\n"
            "from outbox import guards\n"
            "print(guards.are_on(), hasattr(Task.apply_async, '__wrapped__'),"
            " hasattr(Celery.send_task, '__wrapped__'), pre_save.has_listeners(Parcel))"
        )

        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={
                "DJANGO_SETTINGS_MODULE": "guarded_settings",
                "PYTHONPATH": f"{tmp_path}:{ROOT}",
                "SHOP_LOCAL_DIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=True,
        )

        assert result.stdout.split() == [str(are_on)] * 4

    @pytest.mark.django_db
    def test_name_no_line_of_python_or_a_library(self):
        with transaction.atomic(), pytest.raises(SentInTransaction) as found:
            list(map(pack.apply_async, [()]))

        assert line_named(found.value) == "list(map(pack.apply_async, [()]))"


@pytest.mark.django_db(transaction=True)
class TestAnAsyncHandler:
    def test_must_not_connect_inside_its_transaction(self, own_registry: None, no_nudge: None):
        """The event loop's thread has no transaction; the thread that waits for it has one."""

        @subscribe("shops.Ordered", attempts=1)
        async def fetch() -> None:
            await asyncio.open_connection("127.0.0.1", 9)

        emit_orders().deliver_all(raise_errors=False)

        assert Attempt.objects.get().exception == "ConnectedInTransaction"
