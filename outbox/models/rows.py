from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models

from outbox.chosen_database import chosen

ModelT = TypeVar("ModelT", bound=models.Model, covariant=True)


class InOutbox(models.Manager[ModelT]):
    """Reads from the database that the running code works on, with `OUTBOX["DATABASES"]`.

    Without the setting the router decides. Rows that belong to an instance are in its database.
    """

    def get_queryset(self) -> models.QuerySet[ModelT]:
        """Return all rows, of the database of the running code unless another one is named."""
        rows = super().get_queryset()
        is_of_instance = getattr(self, "instance", None) is not None
        using = None if is_of_instance or self._db else chosen()
        return rows.using(using) if using else rows

    @property
    def db(self) -> str:
        """The alias of the database that it reads from."""
        return self.get_queryset().db


class Row(models.Model):
    """A model that refreshes rows, and deferred columns, from the database that they came from.

    Django would read from the router's database for reads, which may be a lagging replica.
    """

    class Meta:
        abstract = True

    if not TYPE_CHECKING:  # Django's plugin for mypy types the manager of each model
        objects = InOutbox()

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        """Read columns again, as Django does, from `using` or from the row's own database."""
        # `from_queryset` has its own database.
        using = using if using or from_queryset is not None else self._state.db
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
