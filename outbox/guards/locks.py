"""Rows that move only under their lock: a guard rail for "lock, then read, decide and emit".

    class ParcelQuerySet(QuerySet["Parcel"]):
        def locked(self, parcel_id: UUID) -> Parcel:
            return mark_locked(self.select_for_update().get(pk=parcel_id))

    @saved_under_lock
    class Parcel(Model): ...

The mark is a callback of `transaction.on_commit` that does nothing: Django forgets it when the
transaction ends, and when the savepoint is rolled back in which the row was locked. That is the
life of the lock itself, on both databases, and nothing is to be tidied up. What `save()` does not
see, this does not either: `QuerySet.update()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models.signals import post_save, pre_save

from outbox import guards

Row = TypeVar("Row")
ModelClass = TypeVar("ModelClass", bound=type[Any])

_models: list[type[Any]] = []


class SavedWithoutLock(guards.RuleBroken):
    """A row was saved that may have changed since it was read: two moves could undo each other."""


@dataclass(frozen=True)
class _Mark:
    """Says, while its transaction lasts, that the row is locked."""

    row: Any

    def __call__(self) -> None:
        """Do nothing: it is the place that counts."""


def mark_locked(row: Row) -> Row:
    """Say that the row was read with `select_for_update()`; it may be saved in this transaction."""
    if guards.are_on():
        transaction.on_commit(_Mark(row), using=_alias(row))
    return row


def saved_under_lock(model: ModelClass) -> ModelClass:
    """Have the guards refuse a `save()` of this model's rows without `mark_locked()`."""
    _models.append(model)
    return model


def watch() -> None:
    """Look at each save of the models that want it. Again, it changes nothing."""
    for model in _models:
        pre_save.connect(_refuse_without_lock, sender=model)
        post_save.connect(_mark_new, sender=model)


def _refuse_without_lock(*, instance: Any, using: str, raw: bool, **_: Any) -> None:
    is_new = instance._state.adding
    if raw or is_new or not guards.are_on() or _is_locked(instance, using=using):
        return
    label = instance._meta.label
    raise SavedWithoutLock(
        f"{guards.user_line()}: {label} {instance.pk} is saved, and is not locked in this "
        "transaction: it may have moved since it was read. Open a transaction, read the row with "
        "select_for_update() and mark_locked(); then decide, save and emit."
    )


def _mark_new(*, instance: Any, created: bool, **_: Any) -> None:
    if created:  # nobody else can see the row before the commit
        mark_locked(instance)


def _is_locked(row: Any, *, using: str) -> bool:
    connection = connections[using]
    marks = (callback for _savepoints, callback, *_ in connection.run_on_commit)
    return connection.in_atomic_block and any(
        isinstance(mark, _Mark) and mark.row is row for mark in marks
    )


def _alias(row: Any) -> str:
    return str(row._state.db)
