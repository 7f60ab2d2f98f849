"""Each migration after the first release lets orders continue, on filled tables of PostgreSQL.

Orders are written with the models of the first release, as its migrations describe them.
`tests/package/test_upgrades.py` runs the released code itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model
from django.utils import timezone

from tests.migrations_beside import FEW, Watch, Writers, rows, run_beside

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(900),
]

#: The last migration of the release 0.1.0. Earlier ones never run beside released code.
FIRST_RELEASE = "0009_correction_index"
#: Rows of each large table.
ROWS = 200_000


def later_migrations() -> list[str]:
    names = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "outbox")
    return names[names.index(FIRST_RELEASE) + 1 :]


def migrate(name: str = "") -> None:
    call_command("migrate", "outbox", *([name] if name else []), verbosity=0)


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

    def _copy(self, name: str, source: str, **changed: str) -> None:
        model = self._models[name]
        columns = [str(one.column) for one in model._meta.concrete_fields if not one.primary_key]
        values = ", ".join(changed.get(one, f't."{one}"') for one in columns)
        table, names = model._meta.db_table, ", ".join(f'"{one}"' for one in columns)
        rows(f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} t, {source}")
        # Also for the checks of foreign keys: this session has planned them for an empty table.
        rows(f"ANALYZE {table}")


@pytest.fixture
def released() -> Iterator[Released]:
    """The tables at the migration of the first release."""
    migrate(FIRST_RELEASE)
    yield Released()
    migrate()


class TestAMigrationBesideOrders:
    def test_blocks_none_of_them(self, released: Released):
        released.fill()
        with Writers(released.order) as orders:
            found = [
                one for name in later_migrations() for one in run_beside("outbox", name, orders)
            ]

        assert found == []


class TestAStatement:
    """The watch detects what blocks orders."""

    @pytest.fixture
    def breaches(self, released: Released) -> Callable[..., list[str]]:
        for _ in range(FEW + 1):
            released.order()
        rows("ANALYZE outbox_delivery")

        def run(*statements: str, atomic: bool = True) -> list[str]:
            watch = Watch("outbox")
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
