"""Refuse to migrate a database whose tables are older than the first release of the outbox.

Development copies recorded the `0001_initial` of an earlier chain of migrations. So `migrate` would
skip the present `0001_initial` and leave the old tables as they are.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

#: The second migration of the earlier chain. Later releases must not use its name.
_SECOND = "0002_ordered_breakers_delayed"


def refuse_old_tables(*, using: str, **_kwargs: Any) -> None:
    """Raise CommandError if the database `using` has old tables; a receiver of `pre_migrate`."""
    applied = MigrationRecorder(connections[using]).applied_migrations()
    if ("outbox", _SECOND) not in applied:
        return
    last = max(name for label, name in applied if label == "outbox")
    raise CommandError(
        f"The database {using} was migrated before the first release of the outbox "
        f"(django_migrations lists outbox.{_SECOND} to outbox.{last}), and this release cannot "
        f"update its tables: {_replace(using)}, then migrate again."
    )


def _replace(using: str) -> str:
    connection = connections[using]
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"delete the file {database['NAME']}"
    return (
        f"drop and create the database {database['NAME']} at {database['HOST']}:{database['PORT']}"
    )
