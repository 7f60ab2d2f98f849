"""Operations of migrations beside which rows are written, on PostgreSQL.

A lock of a table has to wait for each transaction that has used it, such as a dump. All who need
the table queue behind the waiting lock. So it is taken in short tries, between which others
continue.
"""

from __future__ import annotations

import random
import time
from itertools import count
from typing import Any

from django.db import OperationalError, migrations, transaction
from django.db.models import UniqueConstraint

#: Seconds for which one try may block others.
_TRY_SECONDS = 0.3
#: Each of this number of tries waits longer: after one second (`deadlock_timeout`), PostgreSQL ends
#: an autovacuum that holds the lock.
_LONG_EACH, _LONG_SECONDS = 10, 1.5
_LOCK_NOT_AVAILABLE = "55P03"


class AddColumn(migrations.AddField):
    """Add a column that NULL or a database default fills. Its migration alters no other table."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add the column."""
        _lock(self, app_label, self.model_name, schema_editor, to_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the column."""
        _lock(self, app_label, self.model_name, schema_editor, from_state)
        super().database_backwards(app_label, schema_editor, from_state, to_state)


class AddIndex(migrations.AddIndex):
    """Add an index. Its migration is not atomic."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build the index while rows are written. Remove what an interrupted build has left."""
        if not _is_concurrent(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        elif model := _model(self, app_label, schema_editor, to_state):
            schema_editor.remove_index(model, self.index, concurrently=True)
            schema_editor.add_index(model, self.index, concurrently=True)
            if self.index.expressions:
                # Without statistics of an expression, the plans may not use the index.
                schema_editor.execute(f'ANALYZE "{model._meta.db_table}"')

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the index."""
        if not _is_concurrent(schema_editor):
            super().database_backwards(app_label, schema_editor, from_state, to_state)
        elif model := _model(self, app_label, schema_editor, from_state):
            schema_editor.remove_index(model, self.index, concurrently=True)


class RemoveIndex(migrations.RemoveIndex):
    """Remove an index. Its migration is not atomic, and alters no other table."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the index."""
        index = from_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
        AddIndex(self.model_name, index).database_backwards(
            app_label, schema_editor, from_state, to_state
        )

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build the index again."""
        index = to_state.models[app_label, self.model_name_lower].get_index_by_name(self.name)
        AddIndex(self.model_name, index).database_forwards(
            app_label, schema_editor, from_state, to_state
        )


class AddUniqueConstraint(migrations.AddConstraint):
    """Add a unique constraint of columns, unless the table has it. Its migration is not atomic."""

    constraint: UniqueConstraint

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Build the index while rows are written. Then make it the index of the constraint."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(connection.alias, model):
            return
        if connection.vendor != "postgresql" or connection.in_atomic_block:
            with transaction.atomic(connection.alias):
                super().database_forwards(app_label, schema_editor, from_state, to_state)
        elif schema_editor.collect_sql or not self._exists(schema_editor, model):
            self._build(schema_editor, model)
            with transaction.atomic(connection.alias):
                _lock(self, app_label, self.model_name, schema_editor, to_state)
                schema_editor.execute(
                    f'ALTER TABLE "{model._meta.db_table}" ADD CONSTRAINT "{self.constraint.name}" '
                    f'UNIQUE USING INDEX "{self.constraint.name}"'
                )

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the constraint with its index."""
        with transaction.atomic(schema_editor.connection.alias):
            _lock(self, app_label, self.model_name, schema_editor, from_state)
            super().database_backwards(app_label, schema_editor, from_state, to_state)

    def _exists(self, schema_editor: Any, model: Any) -> bool:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(_CONSTRAINT, [self.constraint.name, f'"{model._meta.db_table}"'])
            return cursor.fetchone() is not None

    def _build(self, schema_editor: Any, model: Any) -> None:
        """Build the index. Remove what an interrupted build has left."""
        name, table = self.constraint.name, model._meta.db_table
        fields = [model._meta.get_field(one) for one in self.constraint.fields]
        columns = ", ".join(f'"{one.column}"' for one in fields)
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        schema_editor.execute(f'CREATE UNIQUE INDEX CONCURRENTLY "{name}" ON "{table}" ({columns})')


_CONSTRAINT = "SELECT 1 FROM pg_constraint WHERE conname = %s AND conrelid = %s::regclass"


def _is_concurrent(schema_editor: Any) -> bool:
    connection = schema_editor.connection
    return connection.vendor == "postgresql" and not connection.in_atomic_block


def _model(operation: Any, app_label: str, schema_editor: Any, state: Any) -> Any:
    """Return the model of an operation; None if its database has no table of it."""
    model = state.apps.get_model(app_label, operation.model_name)
    alias = schema_editor.connection.alias
    return model if operation.allow_migrate_model(alias, model) else None


def _lock(operation: Any, app_label: str, name: str, schema_editor: Any, state: Any) -> None:
    """Lock the table of a model until the transaction ends, in short tries."""
    connection = schema_editor.connection
    model = state.apps.get_model(app_label, name)
    if not operation.allow_migrate_model(connection.alias, model):
        return
    # `sqlmigrate` collects statements, and runs none.
    if connection.vendor != "postgresql" or schema_editor.collect_sql:
        return
    for number in count(1):
        seconds = _LONG_SECONDS if number % _LONG_EACH == 0 else _TRY_SECONDS
        try:
            with transaction.atomic(connection.alias):
                _lock_within(connection, model._meta.db_table, seconds)
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
        time.sleep(random.uniform(0.5, 1.5) * _TRY_SECONDS)


def _lock_within(connection: Any, table: str, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        [before] = cursor.fetchone()
        cursor.execute(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")
        cursor.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
