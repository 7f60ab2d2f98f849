"""During a deploy, old and new processes use the tables of the new release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField, CreateModel
from django.db.models import NOT_PROVIDED, CharField


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
        """Seen to fail with the apps told apart by the folder of the virtual environment."""
        labels = {migration.app_label for migration in own_migrations()}

        assert {"outbox", "orders", "payments", "notifications", "webhooks", "api"} <= labels
