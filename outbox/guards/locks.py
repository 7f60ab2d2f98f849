"""Rows that are saved only under their lock: a guard for "lock, then read, decide and emit".

    class ParcelQuerySet(QuerySet["Parcel"]):
        def locked(self, parcel_id: UUID) -> Parcel:
            return mark_locked(self.select_for_update().get(pk=parcel_id))

    @saved_under_lock
    class Parcel(Model): ...

The mark is a callback of `transaction.on_commit` that does nothing. Django removes it at the end of
the transaction, and at the rollback of the savepoint in which the row was locked. The lock itself
ends at the same times, on both databases, so no cleanup is needed. `QuerySet.update()` is not
checked, since it does not call `save()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models.signals import post_save, pre_save

from outbox import guards

__all__ = ["mark_locked", "saved_under_lock"]

Row = TypeVar("Row")
ModelClass = TypeVar("ModelClass", bound=type[Any])

_models: list[type[Any]] = []


class SavedWithoutLock(guards.RuleBroken):
    """A row was saved without its lock: it may overwrite a change since the row was read."""


@dataclass(frozen=True)
class _Mark:
    """Marks a row as locked until the end of its transaction."""

    row: Any

    def __call__(self) -> None:
        """Do nothing: the presence among the callbacks is the mark."""


def mark_locked(row: Row) -> Row:
    """Mark a row as read with `select_for_update()`: this transaction may save it."""
    if guards.are_on():
        transaction.on_commit(_Mark(row), using=_alias(row))
    return row


def saved_under_lock(model: ModelClass) -> ModelClass:
    """Make the guards refuse `save()` of this model's rows without `mark_locked()`."""
    _models.append(model)
    return model


def watch() -> None:
    """Check each save of the registered models. A second call changes nothing."""
    for model in _models:
        pre_save.connect(_refuse_without_lock, sender=model)
        post_save.connect(_mark_new, sender=model)


def _refuse_without_lock(*, instance: Any, using: str, raw: bool, **_: Any) -> None:
    is_new = instance._state.adding
    if raw or is_new or not guards.are_on() or _is_locked(instance, using=using):
        return
    label = instance._meta.label
    raise SavedWithoutLock(
        f"{guards.user_line()}: {label} {instance.pk} is saved without a lock in this "
        "transaction. Another transaction may have changed it since it was read. In one "
        "transaction, read the row with select_for_update() and mark_locked(), then save and emit."
    )


def _mark_new(*, instance: Any, created: bool, **_: Any) -> None:
    if created:  # no other transaction sees the row before the commit
        mark_locked(instance)


def _is_locked(row: Any, *, using: str) -> bool:
    connection = connections[using]
    marks = (callback for _savepoints, callback, *_ in connection.run_on_commit)
    return connection.in_atomic_block and any(
        isinstance(mark, _Mark) and mark.row is row for mark in marks
    )


def _alias(row: Any) -> str:
    return str(row._state.db)
