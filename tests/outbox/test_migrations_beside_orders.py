"""Each migration after the first release lets orders continue, on filled tables of PostgreSQL.

Orders are written with the models of the first release, as its migrations describe them.
`tests/package/test_upgrades.py` runs the released code itself.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model
from django.utils import timezone

from tests.processes import eventually
from tests.threads import count_blocked, in_thread

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(900),
]

#: The last migration of the release 0.1.0. Earlier ones never run beside released code.
FIRST_RELEASE = "0009_correction_index"
#: Rows of each large table.
ROWS = 200_000
#: Rows that a migration may read while it blocks a table.
FEW = 100
#: Orders that have to be completed while a migration waits.
SOME = 5
#: What an emitter waits for a lock before it fails, as its own setting.
LOCK_TIMEOUT = "15s"
#: Modes of a lock with which no row can be stored.
BLOCKING = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")


def later_migrations() -> list[str]:
    names = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "outbox")
    return names[names.index(FIRST_RELEASE) + 1 :]


def migrate(name: str = "") -> None:
    call_command("migrate", "outbox", *([name] if name else []), verbosity=0)


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


class Watch:
    """Inspects each statement of a migration after it has run, in the same transaction.

    PostgreSQL counts the rows that a transaction reads in scans, in builds of an index, and in
    rewrites of a table.
    """

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self._inspects = False
        #: Rows that were read before the present transaction, and are not reported yet.
        self._before: int | None = None

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._inspects:
            return execute(sql, params, many, context)
        self._inspects = True
        try:
            if not connection.in_atomic_block:
                self._before = None
            elif self._before is None:
                self._before = rows(_READ)[0][0]
            found = execute(sql, params, many, context)
            self.breaches += self._in_transaction() if connection.in_atomic_block else alone(sql)
        finally:
            self._inspects = False
        return found

    def _in_transaction(self) -> Iterator[str]:
        if (read := rows(_READ)[0][0] - (self._before or 0)) > FEW:
            for table, mode in rows(_LOCKS, list(BLOCKING)):
                yield f"{read} rows are read by a transaction with a {mode} on {table}"


def alone(sql: str) -> Iterator[str]:
    """Yield the breaches of a statement that runs outside of a transaction."""
    if re.search(r"\bALTER TABLE\b|\bINDEX\b(?! CONCURRENTLY)|^\s*UPDATE\b(?! .django)", sql):
        yield f"outside of a transaction, it is not known what this blocks: {sql}"


_READ = "SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE 'outbox_%'"
_LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.granted AND l.mode = ANY(%s) AND c.relname LIKE 'outbox_%%'
AND c.reltuples > 0"""


def files() -> dict[str, int]:
    """Return the file of each table, which a rewrite replaces."""
    return dict(
        rows(
            "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' "
            "AND relname LIKE 'outbox_%'"
        )
    )


class Released:
    """The tables of the first release, and what its processes write there for an order."""

    def __init__(self) -> None:
        apps = MigrationLoader(None).project_state(("outbox", FIRST_RELEASE)).apps
        self._models = {model.__name__: model for model in apps.get_models()}
        now = timezone.now()
        self._subscription = self._create(
            "Subscription", handler="depot.order", event="depot.Ordered", since=now, queue="depot",
            batch=1, window=1, window_now=1, lease_seconds=60, backoff_base=1, backoff_cap=1,
        )  # fmt: skip

    def _create(self, model: str, /, **values: Any) -> Any:
        return self._models[model]._default_manager.create(**values)

    def order(self) -> None:
        """Emit an event, fan it out, and handle it after a failure, in a transaction each."""
        now, key = timezone.now(), str(uuid4())
        facts = {"name": "depot.Ordered", "key": key, "payload": {}, "correlation_id": uuid4()}
        with transaction.atomic():
            event = self._create("Event", emitted_at=now, **facts)
            self._create("DelayedEvent", due_at=now, stored_at=now, **facts)
        with transaction.atomic():
            delivery = self._create(
                "Delivery", event=event, subscription=self._subscription, due_at=now
            )
            self._update(event, fanned_out_at=now)
        self._update(delivery, state="sent", token=1)
        with transaction.atomic():
            self._create(
                "Attempt", delivery=delivery, number=1, started_at=now, ended_at=now,
                outcome="failed",
            )  # fmt: skip
            self._update(delivery, state="done", settled_at=now)
            self._update(self._subscription, leases_lost=0)
        self._create("Heartbeat", kind="relay", name=key, seen_at=now, started_at=now)

    def _update(self, row: Model, **values: Any) -> None:
        type(row)._default_manager.filter(pk=row.pk).update(**values)

    def fill(self) -> None:
        """Store many settled orders."""
        self.order()
        self._copy("Event", f"generate_series(2, {ROWS})", id="gen_random_uuid()")
        self._copy("Delivery", "outbox_event o WHERE o.seq <> t.event_id", event_id="o.seq")
        self._copy("Attempt", "outbox_delivery o WHERE o.id <> t.delivery_id", delivery_id="o.id")
        for table in ("outbox_event", "outbox_delivery", "outbox_attempt"):
            rows(f"ANALYZE {table}")

    def _copy(self, name: str, source: str, **changed: str) -> None:
        model = self._models[name]
        columns = [str(one.column) for one in model._meta.concrete_fields if not one.primary_key]
        values = ", ".join(changed.get(one, f't."{one}"') for one in columns)
        table, names = model._meta.db_table, ", ".join(f'"{one}"' for one in columns)
        rows(f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} t, {source}")


class Orders:
    """Threads that place orders.

    Attributes:
        errors: of the orders that failed.
    """

    def __init__(self, released: Released) -> None:
        self.errors: list[str] = []
        self._released = released
        self._done = 0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(2)]

    def __enter__(self) -> Orders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def continue_meanwhile(self) -> None:
        """Wait until some more orders are completed, or one has failed."""
        wanted = self._done + SOME
        eventually(lambda: self._done >= wanted or self.errors, f"{wanted} orders")

    def _work(self) -> None:
        try:
            rows(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            while not self._stopping.wait(0.01):
                self._place_one()
        finally:
            connections.close_all()

    def _place_one(self) -> None:
        try:
            self._released.order()
        except Exception as error:
            self.errors.append(repr(error))
        else:
            self._done += 1


def run_beside(name: str, orders: Orders) -> list[str]:
    """Run a migration while orders are placed and a long transaction has read all tables.

    Returns:
        What blocks orders.
    """
    watch, before = Watch(), files()

    def watched() -> None:
        with connection.execute_wrapper(watch):
            migrate(name)

    with transaction.atomic():
        rows(f"LOCK TABLE {', '.join(before)} IN ACCESS SHARE MODE")
        migrated = in_thread(watched)
        eventually(lambda: count_blocked() or is_applied(name), f"{name} waits or is applied")
        orders.continue_meanwhile()
        orders.continue_meanwhile()
    if error := migrated():
        raise AssertionError(name) from error  # type: ignore[misc]  # `object` is an exception
    orders.continue_meanwhile()
    after = files()
    rewritten = {f"{table} is rewritten" for table in before if before[table] != after.get(table)}
    failed = [f"an order failed: {error}" for error in orders.errors]
    orders.errors.clear()
    return [f"{name}: {one}" for one in sorted({*watch.breaches, *rewritten, *failed})]


def is_applied(name: str) -> bool:
    return ("outbox", name) in MigrationRecorder(connection).applied_migrations()


@pytest.fixture
def released() -> Iterator[Released]:
    """The tables at the migration of the first release."""
    migrate(FIRST_RELEASE)
    yield Released()
    migrate()


class TestAMigrationBesideOrders:
    def test_blocks_none_of_them(self, released: Released):
        released.fill()
        with Orders(released) as orders:
            found = [one for name in later_migrations() for one in run_beside(name, orders)]

        assert found == []


class TestAStatement:
    """The watch detects what blocks orders."""

    @pytest.fixture
    def breaches(self, released: Released) -> Callable[..., list[str]]:
        for _ in range(FEW + 1):
            released.order()
        rows("ANALYZE outbox_delivery")

        def run(*statements: str, atomic: bool = True) -> list[str]:
            watch = Watch()
            with (
                connection.execute_wrapper(watch),
                connection.schema_editor(atomic=atomic) as editor,
            ):
                for statement in statements:
                    editor.execute(statement)
            for undo in (
                "DROP INDEX IF EXISTS bad",
                "ALTER TABLE outbox_delivery DROP IF EXISTS bad",
            ):
                rows(undo)
            return watch.breaches

        return run

    @pytest.mark.parametrize(
        ("statement", "mode"),
        [
            ("CREATE INDEX bad ON outbox_delivery (note)", "ShareLock"),
            ("ALTER TABLE outbox_delivery ADD bad float DEFAULT random()", "AccessExclusiveLock"),
            ("ALTER TABLE outbox_delivery ADD bad int CHECK (bad > 0)", "AccessExclusiveLock"),
        ],
    )
    def test_that_reads_all_rows_under_a_lock_is_found(
        self, breaches: Callable[..., list[str]], statement: str, mode: str
    ):
        found = breaches(statement)

        assert any(f"a transaction with a {mode} on outbox_delivery" in one for one in found)

    def test_that_creates_an_index_with_a_lock_outside_of_a_transaction_is_found(
        self, breaches: Callable[..., list[str]]
    ):
        assert breaches("CREATE INDEX bad ON outbox_delivery (note)", atomic=False) != []

    @pytest.mark.parametrize(
        ("statement", "atomic"),
        [
            ("ALTER TABLE outbox_delivery ADD bad int DEFAULT 1", True),
            ("CREATE INDEX CONCURRENTLY bad ON outbox_delivery (note)", False),
        ],
    )
    def test_that_blocks_nothing_is_accepted(
        self, breaches: Callable[..., list[str]], statement: str, atomic: bool
    ):
        assert breaches(statement, atomic=atomic) == []
