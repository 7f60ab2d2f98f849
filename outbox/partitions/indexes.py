"""Build an index of a partitioned table, without a lock against writes.

PostgreSQL refuses `CREATE INDEX CONCURRENTLY` on a partitioned table. So the table first gets an
invalid index (`ON ONLY`), which a later partition is created with. Then the index of each present
partition is built concurrently, and attached. The table's index is valid with the last of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from outbox.deliveries.locks import in_short_tries, limited_waits

from .catalogue import read

#: The maximum length of a name in PostgreSQL, in bytes.
LONGEST_NAME = 63


def build_on_each(editor: Any, model: Any, index: Any) -> None:
    """Build an index of a model's table and of each partition. An interrupted build is continued.

    Args:
        editor: a schema editor that has opened no transaction.
        model: the model of the partitioned table.
        index: the index, a `django.db.models.Index` with a name.
    """
    using, table = editor.connection.alias, model._meta.db_table
    if not read(_EXISTS, [f'"{index.name}"'], using=using)[0][0]:
        statement = _statement(editor, model, index, on=f"ONLY {editor.quote_name(table)}")
        in_short_tries(partial(_execute, editor, statement), using=using)
    for [leaf] in read(_LACKING, [table, f'"{index.name}"'], using=using):
        _build(editor, model, index, leaf)


def _build(editor: Any, model: Any, index: Any, leaf: str) -> None:
    own = f"{leaf}_{index.name.removeprefix(f'{model._meta.db_table}_')}"[:LONGEST_NAME]
    editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{own}"')  # of an interrupted build
    editor.execute(
        _statement(editor, model, index, on=f'"{leaf}"', name=f'"{own}"', concurrently=True)
    )
    attach = f'ALTER INDEX "{index.name}" ATTACH PARTITION "{own}"'
    in_short_tries(partial(_execute, editor, attach), using=editor.connection.alias)


def _statement(
    editor: Any, model: Any, index: Any, *, on: str, name: str = "", concurrently: bool = False
) -> Any:
    """Return Django's statement for the index, on another table and under another name."""
    statement = index.create_sql(model, editor, concurrently=concurrently)
    statement.parts["table"] = on
    if name:
        statement.parts["name"] = name
    return statement


def _execute(editor: Any, statement: Any, seconds: float) -> None:
    with limited_waits(seconds, connection=editor.connection):
        editor.execute(statement)


_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"

_LACKING = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%s) AND NOT i.inhdetachpending AND NOT EXISTS (
    SELECT 1 FROM pg_index x JOIN pg_inherits attached ON attached.inhrelid = x.indexrelid
    WHERE x.indrelid = c.oid AND attached.inhparent = to_regclass(%s))
ORDER BY c.relname"""
