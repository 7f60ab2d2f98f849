"""Operations of migrations beside which events are stored and handled.

An operation that creates an index is in the migration `0009_correction_index`, which is released.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

from outbox.deliveries.locks import lock_table


class AddFieldBesideWrites(migrations.AddField):
    """Add a column that NULL or a database default fills, without a queue of others.

    PostgreSQL then rewrites no row, but locks the table. A transaction that has used it, such as
    a dump, delays that lock, and all who need the table would queue behind it. So the lock is
    taken in short tries, before the transaction has another lock. A migration with this operation
    alters no other table.
    """

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add the column."""
        self._lock(app_label, schema_editor, to_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the column."""
        self._lock(app_label, schema_editor, from_state)
        super().database_backwards(app_label, schema_editor, from_state, to_state)

    def _lock(self, app_label: str, schema_editor: Any, state: Any) -> None:
        connection = schema_editor.connection
        model = state.apps.get_model(app_label, self.model_name)
        # `sqlmigrate` collects statements, and runs none.
        if self.allow_migrate_model(connection.alias, model) and not schema_editor.collect_sql:
            table = model._meta.db_table
            lock_table(table, mode="ACCESS EXCLUSIVE", using=connection.alias)
