"""A delivery does not see changes of the previous one to the process or the session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone, translation
from psycopg import sql

from outbox import DomainEvent, Receipt, subscribe
from outbox.models import Attempt
from outbox.testing import Outbox
from outbox.worker import calls
from tests.outbox.drive import run_messages, run_pass, states

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

TENANT: ContextVar[str] = ContextVar("tenant", default="none")


class Numbered(DomainEvent, key="order_id"):
    order_id: UUID
    number: int


def emit_and_run(number: int = 2) -> None:
    outbox = Outbox()
    for one in range(number):
        outbox.given("tests.Numbered", order_id=uuid4(), number=one)
    run_messages(run_pass())


def execute(statement: Any, *values: Any, using: str = "default") -> Any:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone() if cursor.description else None


class TestTheContext:
    @pytest.mark.parametrize(
        ("change", "read", "expected"),
        [
            (lambda: translation.activate("ja"), translation.get_language, "en"),
            (
                lambda: timezone.activate("Asia/Tokyo"),
                timezone.get_current_timezone_name,
                "UTC",
            ),
            (lambda: TENANT.set("acme"), TENANT.get, "none"),
        ],
        ids=["language", "time zone", "context variable"],
    )
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_of_a_delivery_ends_with_it(
        self,
        change: Callable[[], object],
        read: Callable[[], str],
        expected: str,
        shares: bool,
    ):
        """Failed: what a handler activates was active in the next one, and in the worker."""
        seen = []

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count() -> None:
            seen.append(read())
            change()

        emit_and_run()

        assert seen == [expected, expected]
        assert read() == expected

    def test_of_a_handler_with_receipt_ends_with_it(self):
        @subscribe("tests.Numbered", atomic=False)
        def count(receipt: Receipt) -> None:
            TENANT.set("acme")
            with receipt:
                Group.objects.create(name=TENANT.get())

        emit_and_run(1)

        assert set(states()) == {"done"}
        assert Group.objects.get().name == "acme"
        assert TENANT.get() == "none"


@pytest.mark.postgresql
class TestTheDatabaseSession:
    SHOW = "SELECT current_setting('shop.tenant', true)"

    @pytest.mark.parametrize(
        "statement",
        [
            "SET LOCAL shop.tenant = 'acme'",
            "SELECT set_config('shop.tenant', 'acme', true)",
            "SET shop.tenant = 'acme'",
            "SELECT set_config('shop.tenant', 'acme', false)",
            "select pg_advisory_lock(7)",
            "CREATE TEMP TABLE tenants AS SELECT current_setting('shop.tenant', true)",
        ],
    )
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_of_a_delivery_is_not_used_by_the_next_one(self, statement: str, shares: bool):
        """Failed: a tenant that row-level security goes by was visible to the next delivery."""
        seen = []

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count(number: int) -> None:
            seen.append((number, execute(self.SHOW)[0], execute("SELECT pg_backend_pid()")[0]))
            if number == 0:
                execute(statement)

        emit_and_run()

        assert set(states()) == {"done"}
        assert not Attempt.objects.exists()
        last = {number: (tenant, pid) for number, tenant, pid in seen}
        assert last[1][0] in (None, "")
        is_lasting = "LOCAL" not in statement and ", true)" not in statement[:60]
        assert (last[0][1] != last[1][1]) is is_lasting

    @pytest.mark.parametrize(
        "statement",
        [
            "/* tenant */ SET shop.tenant = 'acme'",
            "-- tenant\nSET shop.tenant = 'acme'",
            "SELECT 1; SET shop.tenant = 'acme'",
            "SELECT '--'; SET shop.tenant = 'acme'",
            "DO $$ BEGIN SET shop.tenant = 'acme'; END $$",
            "SELECT set_config('shop.tenant', 'acme', false), set_config('shop.other', 'x', true)",
        ],
    )
    def test_is_discarded_wherever_the_statement_sets_state(self, statement: str):
        """Failed: the watch looked at the first word of the text only."""
        seen = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count(number: int) -> None:
            seen.append(execute(self.SHOW)[0])
            if number == 0:
                execute(statement)

        emit_and_run()

        assert set(states()) == {"done"}
        assert len(seen) == 2
        assert set(seen) <= {None, ""}

    def test_with_state_makes_its_handler_run_one_by_one(self, caplog: pytest.LogCaptureFixture):
        @subscribe("tests.Numbered")
        def count() -> None:
            execute("SET LOCAL shop.tenant = 'acme'")

        emit_and_run()
        emit_and_run()

        assert set(states()) == {"done"}
        assert caplog.text.count("so its deliveries share no transaction") == 1
        assert calls._one_by_one == {"tests.count"}

    @pytest.mark.parametrize(
        "statement",
        [
            "SET CONSTRAINTS ALL IMMEDIATE",
            "UPDATE auth_group SET name = 'set_'",
            "SELECT pg_advisory_xact_lock(7)",
            "CREATE INDEX CONCURRENTLY_not ON auth_group (name)",
        ],
    )
    def test_is_kept_if_a_statement_only_resembles_one_that_sets_state(self, statement: str):
        @subscribe("tests.Numbered")
        def count(number: int) -> None:
            if number == 0:
                execute(statement)

        emit_and_run()

        assert set(states()) == {"done"}
        assert calls._one_by_one == set()
        if "INDEX" in statement:
            execute("DROP INDEX CONCURRENTLY_not")

    def test_is_kept_for_a_handler_that_sets_it_by_a_parameter(self):
        """`set_config(name, value, %s)` with a true parameter ends with its transaction."""
        pids = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count() -> None:
            pids.append(execute("SELECT pg_backend_pid()")[0])
            execute("SELECT set_config(%s, %s, %s)", "shop.tenant", "acme", True)

        emit_and_run()

        assert len(set(pids)) == 1


@pytest.mark.postgresql
class TestAStatementThatIsNotAStr:
    """Failed: each run ended with AttributeError, and Django itself executes the statement."""

    @pytest.mark.parametrize("kind", ["composed", "bytes"])
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_runs_as_without_the_outbox(self, kind: str, shares: bool):
        statements = {
            "composed": sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("auth_group")),
            "bytes": b"SELECT count(*) FROM auth_group",
        }

        @subscribe("tests.Numbered", shared_transaction=shares)
        def count() -> None:
            execute(statements[kind])

        emit_and_run()

        assert set(states()) == {"done"}
        assert not Attempt.objects.exists()
        assert calls._one_by_one == set()

    @pytest.mark.parametrize("kind", ["composed", "bytes", "unreadable"])
    def test_is_detected_if_it_sets_state_of_the_session(self, kind: str):
        class Unreadable(sql.SQL):
            def as_string(self, context: Any = None) -> str:
                raise NotImplementedError

        statements = {
            "composed": sql.SQL("SET {} = 'acme'").format(sql.Identifier("shop", "tenant")),
            "bytes": b"SET shop.tenant = 'acme'",
            "unreadable": Unreadable("SET shop.tenant = 'acme'"),
        }
        seen = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count(number: int) -> None:
            seen.append(execute(TestTheDatabaseSession.SHOW)[0])
            if number == 0:
                execute(statements[kind])

        emit_and_run()

        assert set(states()) == {"done"}
        assert set(seen) <= {None, ""}


@pytest.fixture(params=[{}, {"close_returns": True}], ids=["pool", "close-returns"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Django take its connections from a pool (OPTIONS["pool"]) with one connection."""
    options = {
        **connection.settings_dict["OPTIONS"],
        "pool": {"min_size": 1, "max_size": 1, **request.param},
    }
    settings = {**connection.settings_dict, "OPTIONS": options, "CONN_MAX_AGE": 0}
    connection.close()
    monkeypatch.setattr(connections["default"], "settings_dict", settings)
    yield
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # the PostgreSQL backend's own


@pytest.mark.postgresql
@pytest.mark.usefixtures("pool")
class TestASessionOfAPool:
    def test_is_not_reused_with_its_state(self):
        """Failed: the pool got the session back, and gave it to the next delivery."""
        seen = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count(number: int) -> None:
            seen.append(execute(TestTheDatabaseSession.SHOW)[0])
            if number == 0:
                execute("SET shop.tenant = 'acme'")

        emit_and_run()

        assert set(states()) == {"done"}
        assert len(seen) == 2
        assert set(seen) <= {None, ""}

    def test_is_kept_if_no_state_was_set(self):
        pids = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count() -> None:
            pids.append(execute("SELECT pg_backend_pid()")[0])

        emit_and_run(1)
        connection.close()
        emit_and_run(1)

        assert len(set(pids)) == 1


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Return a function that executes a statement on an alias that this thread has not used yet."""

    def ensure_connection(self: Any) -> None:  # Django's own, without what its tests put around
        if self.connection is None:
            with self.wrap_database_errors:
                self.connect()

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", ensure_connection)
    monkeypatch.setitem(connections.settings, "second", dict(connection.settings_dict))
    yield partial(execute, using="second")
    connections["second"].close()
    del connections["second"]


@pytest.mark.postgresql
class TestTheSessionOfAnotherDatabase:
    def test_keeps_nothing_of_the_first_delivery_that_uses_it(self, second: Callable[[str], Any]):
        """Failed: an alias that a handler was the first to use was not watched."""
        seen = []

        @subscribe("tests.Numbered", shared_transaction=False)
        def count(number: int) -> None:
            seen.append(second(TestTheDatabaseSession.SHOW)[0])
            if number == 0:
                second("SET shop.tenant = 'acme'")

        emit_and_run(2)

        assert set(states()) == {"done"}
        assert len(seen) == 2
        assert set(seen) <= {None, ""}

    @pytest.mark.parametrize("is_used_before", [True, False])
    def test_keeps_nothing_of_a_call_within_a_batch(
        self, second: Callable[[str], Any], is_used_before: bool
    ):
        """Failed: the batch was rolled back, and the other session was not."""
        seen = []
        if is_used_before:
            second("SELECT 1")

        @subscribe("tests.Numbered")
        def count(number: int) -> None:
            seen.append((number, second(TestTheDatabaseSession.SHOW)[0]))
            if number == 1:
                second("SET shop.tenant = 'acme'")

        emit_and_run(3)

        assert set(states()) == {"done"}
        assert {number for number, _tenant in seen} == {0, 1, 2}
        assert {tenant for _number, tenant in seen} <= {None, ""}

    def test_holds_no_lock_that_outlasts_the_rollback_of_a_batch(self):
        """Failed: a lock of the session was there when the earlier calls ran again."""
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
        seen = []

        @subscribe("tests.Numbered")
        def count(number: int) -> None:
            seen.append(execute(held)[0])
            if number == 1:
                execute("SELECT pg_advisory_lock(7)")

        emit_and_run(3)

        assert set(states()) == {"done"}
        assert set(seen) == {0}


class TestACacheOfRows:
    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_holds_no_row_that_was_rolled_back(self, shares: bool):
        """Failed: the second run read a content type that was never stored."""
        found = []

        @subscribe("tests.Numbered", shared_transaction=shares, backoff_base=0)
        def count(number: int) -> None:
            Group.objects.create(name=f"{number}")
            ContentType.objects.clear_cache()
            ContentType.objects.filter(app_label="auth", model="group").delete()
            kind = ContentType.objects.get_for_model(Group)
            found.append(kind.pk)
            raise ValueError

        before = ContentType.objects.get_for_model(Group).pk
        emit_and_run(1 if not shares else 2)

        assert found
        assert before not in found
        assert ContentType.objects.get_for_model(Group).pk == before


async def coroutine() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


class Promise:
    """An awaitable that cannot be closed, as a future of asyncio."""

    def __await__(self) -> Any:
        return iter(())


class TestAHandlerThatReturnsACoroutineOrGenerator:
    @pytest.mark.parametrize("later", [coroutine, async_generator, generator, Promise])
    @pytest.mark.filterwarnings("error")
    def test_has_failed(self, later: Callable[[], Any]):
        """Failed: it was done, and nothing had run."""

        @subscribe("tests.Numbered")
        def count() -> Any:
            return later()

        emit_and_run(1)

        assert Attempt.objects.get().exception == "TypeError"
        assert "its body has not run" in Attempt.objects.get().message
