"""Empties the database after a test that commits: only the tables that have rows.

Django's own way empties every table, which costs PostgreSQL a tenth of a second, and then creates
all content types and permissions anew; together that is more than most of these tests take. Here
those two stay, and so do the subscriptions, the rest of what migrate has stored. They are stored
again only if the test has changed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.apps import apps
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.test import TransactionTestCase

from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Subscription
from outbox.subscriptions import Handler, registry

#: What migrate leaves there and no test changes for good.
KEPT = ("contenttypes.ContentType", "auth.Permission")

#: Not in the stubs: Django's own hook, which pytest-django calls, too.
HOOK = "_fixture_teardown"
_usual: Callable[[TransactionTestCase], None] = getattr(TransactionTestCase, HOOK)


def install() -> None:
    """Do so after each test that commits, instead of what Django does."""
    setattr(TransactionTestCase, HOOK, _empty_each)


def _empty_each(self: TransactionTestCase) -> None:
    for alias in self._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        if self.available_apps is not None or self.serialized_rollback or not _is_ours(alias):
            _usual(self)
            return
        _empty(connections[alias])


def _is_ours(alias: str) -> bool:
    """Whether the kept tables have as many rows as migrate leaves there, on the default database.

    What a test has added to them, or taken away, would be met by the next.
    """
    if alias != "default":
        return False
    found = [apps.get_model(name)._default_manager.using(alias).count() for name in KEPT]
    models = apps.get_models()
    return found == [len(models), sum(map(_permissions, models))]


#: The handlers that were last synced, and the rows that this left.
_synced: tuple[list[Handler], list[dict[str, Any]]] = ([], [])


def _empty(connection: BaseDatabaseWrapper) -> None:
    """In one transaction: foreign keys are looked at when it commits, so the order is all one."""
    with transaction.atomic(using=connection.alias):
        _empty_most(connection)
        _restore_subscriptions(connection.alias)


def _restore_subscriptions(alias: str) -> None:
    """Sync the handlers' rows, or store those of the latest sync if no handler has changed."""
    global _synced
    rows, (handlers, synced) = Subscription.objects.using(alias), _synced
    if handlers != registry:
        rows.all().delete()
        sync_subscriptions(using=alias)
        _synced = list(registry), _values(alias)
    elif _values(alias) != synced:
        rows.all().delete()
        rows.bulk_create(Subscription(**row) for row in synced)


def _values(alias: str) -> list[dict[str, Any]]:
    return [dict(row) for row in Subscription.objects.using(alias).order_by("pk").values()]


def _empty_most(connection: BaseDatabaseWrapper) -> None:
    kept = {apps.get_model(name)._meta.db_table for name in (*KEPT, "outbox.Subscription")}
    tables = sorted(set(connection.introspection.django_table_names(only_existing=True)) - kept)
    with connection.cursor() as cursor:
        for table in _with_rows(connection, tables):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")


def _with_rows(connection: BaseDatabaseWrapper, tables: Iterable[str]) -> list[str]:
    looks = (
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})"
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(looks))
        return [name for (name,) in cursor.fetchall()]


def _permissions(model: type[Model]) -> int:
    return len(model._meta.default_permissions) + len(model._meta.permissions)
