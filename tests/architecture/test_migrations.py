"""Old and new processes run side by side during a deploy, on the tables of the new release."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.conf import settings
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField, CreateModel
from django.db.models import NOT_PROVIDED

#: Before the first release that could be deployed beside another one.
EARLIER = {("outbox", "0002_ordered_breakers_delayed")}


def own_migrations() -> Iterator[Migration]:
    ours = {
        app.label
        for app in apps.get_app_configs()
        if app.path.startswith(str(settings.BASE_DIR)) and "site-packages" not in app.path
    }
    for (label, name), migration in MigrationLoader(None).disk_migrations.items():
        if label in ours and (label, name) not in EARLIER:
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


class TestANewColumn:
    def test_has_a_value_where_old_code_inserts_a_row(self):
        """Seen to fail with `Endpoint.url_state` without `db_default`."""
        found = [
            column
            for migration in own_migrations()
            for column in columns_that_old_code_cannot_leave_out(migration)
        ]

        assert found == []

    def test_is_looked_for_in_every_app(self):
        """Seen to fail with the apps told apart by the folder of the virtual environment."""
        labels = {migration.app_label for migration in own_migrations()}

        assert {"outbox", "orders", "payments", "notifications", "webhooks", "api"} <= labels
