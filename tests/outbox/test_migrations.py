"""`migrate` beside running processes of the previous release, and back to its tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from outbox.models import Event, Minute, SourceState
from outbox.testing import Outbox
from tests.databases import fresh_database
from tests.outbox.sessions import used
from tests.threads import count_blocked, in_thread

pytestmark = [
    pytest.mark.django_db(transaction=True),
]

#: The last migration of the release before settlements.
BEFORE = "0003_received"
#: Tables of which a handler, a relay or a request writes several in one transaction.
TABLES = (
    "outbox_event",
    "outbox_delivery",
    "outbox_subscription",
    "outbox_delayedevent",
    "outbox_attempt",
)


def later_migrations() -> list[str]:
    names = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "outbox")
    return names[names.index(BEFORE) :]


def migrate(name: str = "") -> None:
    call_command("migrate", "outbox", *([name] if name else []), verbosity=0)


def is_applied(name: str) -> bool:
    return ("outbox", name) in MigrationRecorder(connection).applied_migrations()


@pytest.fixture
def migrate_to(db: None) -> Iterator[Callable[[str], None]]:
    yield migrate
    migrate()


@pytest.fixture(scope="module")
def stepped(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Yield the URL of a database that stays at the migration at which a test has left it.

    So the next test, which begins there, need not go all the way back and forth.
    """
    with fresh_database("postgresql") as url:
        with django_db_blocker.unblock(), used(url):
            call_command("migrate", run_syncdb=True, verbosity=0)
        yield url


@pytest.fixture
def step_to(db: None, stepped: str) -> Iterator[Callable[[str], None]]:
    with used(stepped):
        yield migrate


def test_a_database_can_be_migrated_back_and_forth(migrate_to: Callable[[str], None]):
    """The handlers of `migrate` do not read columns that an earlier release lacks."""
    for name in reversed(later_migrations()):
        migrate_to(name)
    for name in later_migrations():
        migrate_to(name)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite locks the whole database.")
@pytest.mark.parametrize(("earlier", "name"), [*pairwise(later_migrations())])
@pytest.mark.parametrize("written", TABLES)
def test_a_transaction_that_has_written_a_table_can_write_others_beside_a_migration(
    step_to: Callable[[str], None], earlier: str, name: str, written: str
):
    """A migration that holds the lock of one table and waits for another one's deadlocks."""
    step_to(earlier)
    assert not is_applied(name)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {written} IN ROW EXCLUSIVE MODE")
        done = in_thread(lambda: migrate(name))
        while not (count_blocked() or is_applied(name)):
            time.sleep(0.01)
        for table in TABLES:
            cursor.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")

    assert done() is None


class TestAReversal:
    @pytest.fixture(autouse=True)
    def _event(self, outbox: Outbox, migrate_to: Callable[[str], None]) -> None:
        outbox.given("depot.PlaceAssigned", parcel_id=uuid4())

    def test_that_would_lose_the_values_of_a_column_is_refused_and_changes_nothing(self):
        Event.objects.update(tracestate="vendor=1")

        with pytest.raises(CommandError) as refused:
            migrate("0004_settlements")

        assert str(refused.value) == (
            "Migration outbox.0005_tracestate cannot be reversed: the column tracestate of "
            "outbox_event has values, which would be lost. Leave the tables as they are, and start "
            "the code of the earlier release: it runs on them."
        )
        assert is_applied(later_migrations()[-1])

    def test_that_would_lose_the_rows_of_a_table_is_refused(self):
        SourceState.objects.create(source="carrier")

        with pytest.raises(CommandError, match="the table outbox_sourcestate has rows"):
            migrate("0002_events_and_targets")

    def test_of_a_column_with_its_default_is_done(self):
        migrate("0004_settlements")

        assert not is_applied("0005_tracestate")

    def test_that_would_lose_only_statistics_is_done(self):
        Minute.objects.create(minute=timezone.now(), handler="depot.place", few_lags=[0.5])

        migrate("0016_release_of_attempts")

        assert not is_applied("0017_few_lags")

    def test_to_zero_removes_the_outbox(self):
        Event.objects.update(tracestate="vendor=1")

        migrate("zero")

        assert not is_applied("0001_initial")
