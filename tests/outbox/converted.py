"""Databases of PostgreSQL whose events and deliveries are in partitions of a day.

With TEST_PARTITIONS=day the tests run on such a database, without those that are marked
`unpartitioned`. Tests of the conversion itself have databases of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker, Settings

from outbox import clock
from outbox.deliveries import subscribed
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.conversion import convert
from tests.databases import fresh_database

#: Days after the conversion on which the tests run: today has a partition of its own.
DAYS_LATER = 3


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Convert the test database with TEST_PARTITIONS=day."""
    if os.environ.get("TEST_PARTITIONS"):
        with django_db_blocker.unblock():
            convert_days_ago()


@pytest.fixture(scope="session")
def template_of_plain(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Yield the name of a migrated database without partitions, to which nobody is connected."""
    with fresh_database("postgresql") as url, django_db_blocker.unblock():
        with used(url):
            call_command("migrate", run_syncdb=True, verbosity=0)
        yield _name(url)


@pytest.fixture(scope="session")
def template_of_converted(
    template_of_plain: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """Yield the name of a converted database, to which nobody is connected."""
    given = fresh_database("postgresql", template=template_of_plain)
    with given as url, django_db_blocker.unblock():
        with used(url):
            convert_days_ago()
        yield _name(url)


@pytest.fixture
def plain(own_registry: None, template_of_plain: str, settings: Settings) -> Iterator[None]:
    """Use an empty database of its own, whose tables are not converted yet.

    Test modules that use it need `django_db(transaction=True)`.
    """
    yield from _copy_of(template_of_plain, settings)


@pytest.fixture
def converted(own_registry: None, template_of_converted: str, settings: Settings) -> Iterator[None]:
    """Use an empty database of its own, converted some days ago.

    Test modules that use it need `django_db(transaction=True)`.
    """
    yield from _copy_of(template_of_converted, settings)


def _copy_of(template: str, settings: Settings) -> Iterator[None]:
    settings.OUTBOX = {**settings.OUTBOX, "PARTITION": "day", "NUDGE": False}
    with fresh_database("postgresql", template=template) as url, used(url):
        subscribed.forget()
        yield
        subscribed.forget()


@contextmanager
def used(url: str) -> Iterator[None]:
    """Let all new connections lead to another database of the same server within the block."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = _name(url)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def convert_days_ago(days: int = DAYS_LATER) -> None:
    """Convert the tables as if some days had passed since, and let the sequence jump to today."""
    from django.conf import settings

    with override_settings(OUTBOX={**settings.OUTBOX, "PARTITION": "day"}):
        with days_later(-days):
            convert(using="default")
        keep_ahead(using="default")


@contextmanager
def days_later(days: float) -> Iterator[None]:
    """Move the outbox's clock by so many days within the block, in all threads."""
    now = clock.now

    def moved(*, using: str | None = None) -> datetime:
        return now(using=using) + timedelta(days=days)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", moved)
        yield


def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def as_of_tables(plan: Iterable[str]) -> list[str]:
    """Return the lines of a plan as if the tables had no partitions.

    Partitions and their indexes have the names of their tables and of the indexes of these. Scans
    of empty partitions are left out.
    """
    if connection.vendor != "postgresql" or not (parents := dict(rows(_PARENTS))):
        return list(plan)
    empty = {name for (name,) in rows(_EMPTY)}
    found = []
    for line in plan:
        scanned = re.search(r" on (\w+)", line)
        if scanned is None or scanned[1] not in empty:
            named = re.sub(r"\w+", lambda word: parents.get(word[0], word[0]), line)
            found.append(re.sub(r"\b(outbox_event|outbox_delivery)_\d+\b", r"\1", named))
    return found


_PARENTS = """
SELECT c.relname, p.relname FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent"""
_EMPTY = """
SELECT relname FROM pg_class
WHERE relispartition AND relkind = 'r' AND pg_relation_size(oid) = 0"""


@contextmanager
def in_another_transaction(*statements: str) -> Iterator[None]:
    """Execute statements in a transaction of another connection, open until the block ends."""
    other = connections["default"].copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def acting_as_visitor(*grants: str) -> Iterator[str]:
    """Act as a new role that owns nothing, in a transaction that is rolled back."""
    role = f"visitor_{uuid4().hex[:12]}"
    with transaction.atomic():
        rows(f"CREATE ROLE {role}")
        for grant in grants:
            rows(grant.format(role=role))
        rows(f"SET LOCAL ROLE {role}")
        yield role
        rows("RESET ROLE")
        transaction.set_rollback(True)


def _name(url: str) -> str:
    return url.rpartition("/")[2]
