"""Migration operations that do not block emitters, relays and workers, and their state."""

from __future__ import annotations

from typing import Any

from django.db import connections, migrations
from django.db.migrations.executor import MigrationExecutor

from outbox.deliveries.locks import lock_table


def first_unapplied(alias: str) -> str:
    """Return the first migration of the outbox that a database lacks, or ""."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("outbox"))
    return next((one.name for one, _backwards in plan if one.app_label == "outbox"), "")


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


class AddIndexBesideWrites(migrations.AddIndex):
    """Add an index without a lock against writes, if no transaction is open."""

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build the index. Remove the rest of an interrupted build."""
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
    return connection.vendor == "postgresql" and not connection.in_atomic_block
