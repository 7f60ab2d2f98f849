"""Refuse to reverse a migration if stored values would be lost.

An earlier release runs on the tables of the next one, so going back does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db.migrations import Migration
from django.db.migrations.operations import AddField, CreateModel
from django.db.models import NOT_PROVIDED, Field

#: Models whose rows are statistics of the last 25 hours: losing them delays no reversal.
_STATISTICS = {"minute"}


def refuse_losses(
    *, using: str, plan: Sequence[tuple[Migration, bool]], apps: Apps, **_kwargs: Any
) -> None:
    """Raise CommandError if `migrate` would remove a table with rows, or a column with values.

    It receives `pre_migrate`, so nothing has changed yet. `migrate outbox zero` is not refused: it
    removes the outbox on purpose.

    Args:
        using: the database alias.
        plan: the migrations, each with whether it is reversed.
        apps: the models as the tables are now.
    """
    reversals = [one for one, is_reversed in plan if is_reversed and one.app_label == "outbox"]
    if any(one.initial for one in reversals):
        return
    for migration in reversals:
        for lost in _losses(migration, apps, using=using):
            raise CommandError(
                f"Migration {migration} cannot be reversed: {lost}, which would be lost. Leave the "
                "tables as they are, and start the code of the earlier release: it runs on them."
            )


def _losses(migration: Migration, apps: Apps, *, using: str) -> Iterator[str]:
    for operation in migration.operations:
        if isinstance(operation, CreateModel):
            model = apps.get_model(migration.app_label, operation.name)
            if model._default_manager.using(using).exists():
                yield f"the table {model._meta.db_table} has rows"
        elif isinstance(operation, AddField) and operation.model_name_lower not in _STATISTICS:
            model = apps.get_model(migration.app_label, operation.model_name)
            field = model._meta.get_field(operation.name)
            rows = model._default_manager.using(using).exclude(**{f"{field.name}__isnull": True})
            for value in _empty_values(field):
                rows = rows.exclude(**{field.name: value})
            if rows.exists():
                yield f"the column {field.column} of {model._meta.db_table} has values"


def _empty_values(field: Field[Any, Any]) -> list[Any]:
    """Return the values that the release before the column left in it: its defaults."""
    given = (field.default, field.db_default)
    return [one for one in given if one is not NOT_PROVIDED and not callable(one)]
