"""During a deploy, old and new processes use the tables of the new release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField, CreateModel
from django.db.models import CASCADE, NOT_PROVIDED, CharField, ForeignKey, Model
from django.test.utils import isolate_apps

from outbox.models import Delivery, Event


def own_migrations() -> Iterator[Migration]:
    ours = {
        app.label
        for app in apps.get_app_configs()
        if app.path.startswith(str(settings.BASE_DIR)) and "site-packages" not in app.path
    }
    for (label, _name), migration in MigrationLoader(None).disk_migrations.items():
        if label in ours:
            yield migration


def columns_that_old_code_cannot_leave_out(migration: Migration) -> Iterator[str]:
    made = {one.name_lower for one in migration.operations if isinstance(one, CreateModel)}
    for one in migration.operations:
        if (
            isinstance(one, AddField)
            and one.model_name_lower not in made
            and not one.field.null
            and not one.field.many_to_many
            and one.field.db_default is NOT_PROVIDED
        ):
            yield f"{migration}: {one.model_name}.{one.name}"


def added(**options: Any) -> Migration:
    """Return a migration that adds the column `orders.Order.channel`."""
    column = AddField("Order", "channel", CharField(max_length=9, **options))

    class Channel(Migration):
        operations = [column]

    return Channel("0002_channel", "orders")


class TestANewColumn:
    def test_has_a_value_when_old_code_inserts_a_row(self):
        found = [
            column
            for migration in own_migrations()
            for column in columns_that_old_code_cannot_leave_out(migration)
        ]

        assert found == []

    def test_without_a_database_default_is_found(self):
        found = list(columns_that_old_code_cannot_leave_out(added(default="")))

        assert found == ["orders.0002_channel: Order.channel"]

    @pytest.mark.parametrize("options", [{"default": "", "db_default": ""}, {"null": True}])
    def test_that_old_code_may_leave_out_is_accepted(self, options: dict[str, Any]):
        assert list(columns_that_old_code_cannot_leave_out(added(**options))) == []

    def test_is_checked_in_every_app(self):
        """Seen to fail with the apps distinguished by the folder of the virtual environment."""
        labels = {migration.app_label for migration in own_migrations()}

        assert {"outbox", "orders", "payments", "notifications", "webhooks", "api"} <= labels


#: The last migration of the release 0.1.0. Earlier ones never run beside released code.
FIRST_RELEASE = "0009_correction_index"


def altered_tables(migration: Migration) -> set[str]:
    """Return the existing tables that a migration locks."""
    made = {one.name_lower for one in migration.operations if isinstance(one, CreateModel)}
    return {
        name
        for one in migration.operations
        if (name := getattr(one, "model_name_lower", "")) and name not in made
    }


class TestAMigrationOfTheOutbox:
    def test_alters_one_table(self):
        """One that holds the lock of two tables deadlocks with running processes."""
        found = {
            str(migration): altered_tables(migration)
            for migration in own_migrations()
            if migration.app_label == "outbox" and migration.name > FIRST_RELEASE
        }

        assert {name: tables for name, tables in found.items() if len(tables) > 1} == {}

    def test_that_alters_two_is_found(self):
        class Two(Migration):
            operations = [
                AddField("Order", "channel", CharField(max_length=9, null=True)),
                AddField("Line", "channel", CharField(max_length=9, null=True)),
            ]

        assert altered_tables(Two("0002_two", "orders")) == {"order", "line"}


#: Foreign keys to events and deliveries whose rows the release 0.1.0 deletes when it prunes.
PRUNED_BY_EACH_RELEASE = {"Delivery.event", "Attempt.delivery", "Settlement.delivery"}
PRUNED = {"Event", "Delivery"}


def references(models: Iterable[type[Model]]) -> set[str]:
    """Return the foreign keys to pruned rows that the database enforces."""
    return {
        f"{model.__name__}.{column.name}"
        for model in models
        for column in model._meta.concrete_fields
        if isinstance(column, ForeignKey)
        and getattr(column, "db_constraint", True)  # the stubs lack it
        and column.related_model._meta.object_name in PRUNED
    }


class TestATableThatRefersToEventsOrDeliveries:
    """Code of the earlier release prunes beside the new tables, and does not know them."""

    def test_has_no_foreign_key_that_stops_the_earlier_release_from_pruning(self):
        """Store the event's UUID, or the delivery's id with `db_constraint=False`."""
        assert references(apps.get_app_config("outbox").get_models()) == PRUNED_BY_EACH_RELEASE

    def test_with_such_a_key_is_found(self):
        with isolate_apps("outbox"):

            class Receipt(Model):  # noqa: DJ008  it has no rows to be shown
                event = ForeignKey(Event, CASCADE)
                delivery = ForeignKey(Delivery, CASCADE, db_constraint=False)

                class Meta:
                    app_label = "outbox"

            assert references([Receipt]) == {"Receipt.event"}
