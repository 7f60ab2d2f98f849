"""Texts for database errors that end a command: cause and next step."""

from __future__ import annotations

from django.db import Error, ProgrammingError, connections
from django.db.migrations.executor import MigrationExecutor

from outbox import databases
from outbox.deliveries.transient_errors import database_of, is_reachable
from outbox.formatting import one_line


def explained(error: Error) -> str:
    """Return which database failed, why, and what to do; "" for an error of the code."""
    alias = database_of(error) or databases.alias()
    cause = one_line(str(error)) or type(error).__name__
    if not is_reachable(using=alias):
        return (
            f"The database {alias} cannot be reached, or not be written to: {cause}. See whether "
            f"it runs, and whether DATABASES[{alias!r}] of the settings names it. Then give the "
            "same line again; `manage.py outbox log` shows what was begun before."
        )
    if missing := _unapplied(alias):
        return (
            f"The database {alias} lacks migrations of the outbox, from {missing} on: {cause}. Run "
            f"`manage.py migrate --database {alias}`, or see whether DATABASES[{alias!r}] of the "
            "settings names the right one."
        )
    if isinstance(error, ProgrammingError):
        return ""
    return (
        f"The database {alias} answers, but has refused a statement: {cause}. `manage.py outbox "
        "doctor` looks at its locks and settings. Then give the same line again; `manage.py outbox "
        "log` shows what was begun before."
    )


def _unapplied(alias: str) -> str:
    """Return the first migration of the outbox that the database lacks, or ""."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("outbox"))
    return next((one.name for one, _backwards in plan if one.app_label == "outbox"), "")
