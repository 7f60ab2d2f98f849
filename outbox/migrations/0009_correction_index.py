"""The index of corrections. Events are stored while PostgreSQL builds it."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models


class AddIndexBesideWrites(migrations.AddIndex):
    """Add an index without a lock against writes, if no transaction is open."""

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build the index. Remove what an interrupted build has left."""
        if not _is_concurrent(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
        schema_editor.add_index(model, self.index, concurrently=True)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the index."""
        if not _is_concurrent(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        schema_editor.remove_index(model, self.index, concurrently=True)


def _is_concurrent(schema_editor: Any) -> bool:
    connection = schema_editor.connection
    return connection.vendor == 'postgresql' and not connection.in_atomic_block


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('outbox', '0008_tracestate_of_delayed_events'),
    ]

    operations = [
        AddIndexBesideWrites(
            model_name='event',
            index=models.Index(condition=models.Q(('corrects__isnull', False)), fields=['corrects'], name='outbox_event_corrects'),
        ),
    ]
