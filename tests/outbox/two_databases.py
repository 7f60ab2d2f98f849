"""A second database with an outbox, and the setting that lists both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import environ
import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import DjangoDbBlocker, Settings

from outbox.deliveries import subscribed
from outbox.deliveries.sync import sync_subscriptions
from tests.databases import fresh_database

SHARD = "shard_1"
BOTH = ["default", SHARD]
_EMPTIED = ("outbox", "freight", "depot")


@pytest.fixture(scope="session")
def migrated_shard(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Any]:
    """Yield the settings of a second database of the kind under test, with all tables."""
    with fresh_database() as url, django_db_blocker.unblock():
        given = {**connection.settings_dict, **environ.Env.db_url_config(url)}
        with registered(given):
            call_command("migrate", database=SHARD, run_syncdb=True, verbosity=0)
        yield given


@pytest.fixture
def shard(
    own_registry: None,
    migrated_shard: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Yield the alias of the second database. The setting lists both, and both are empty.

    Test modules that use it need `django_db(transaction=True)`.
    """
    # Django's own, without what its tests put around.
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", _ensure_connection)
    settings.OUTBOX = {**settings.OUTBOX, "DATABASES": BOTH, "NUDGE": False}
    with registered(migrated_shard):
        empty()
        subscribed.forget()
        yield SHARD
        subscribed.forget()


@contextmanager
def registered(given: Any) -> Iterator[None]:
    """Add the second database to the settings within the block."""
    connections.settings[SHARD] = given
    try:
        yield
    finally:
        connections[SHARD].close()
        del connections[SHARD]
        del connections.settings[SHARD]


def empty() -> None:
    """Delete all rows of the second database, but not Django's own."""
    shard = connections[SHARD]
    models = (one for one in apps.get_models() if one._meta.app_label in _EMPTIED)
    tables = [one._meta.db_table for one in models]
    shard.ops.execute_sql_flush(shard.ops.sql_flush(no_style(), tables, allow_cascade=True))


@contextmanager
def unreachable(using: str) -> Iterator[list[str]]:
    """Let no new connection to a database succeed within the block, in any thread.

    Yield a list that gets the alias for each refused connection.
    """
    asked: list[str] = []

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.alias == using:
            asked.append(using)
            raise OperationalError("connection refused")
        return connect(self, *args, **kwargs)

    connect = BaseDatabaseWrapper.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "connect", refuse)
        connections[using].close()
        yield asked


def sync_both() -> None:
    """Store the subscriptions of the test's handlers in both databases."""
    for using in BOTH:
        sync_subscriptions(using=using)


def _ensure_connection(self: Any) -> None:
    if self.connection is None:
        with self.wrap_database_errors:
            self.connect()
