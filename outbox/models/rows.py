from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models


class Row(models.Model):
    """A model that refreshes rows, and deferred columns, from the database that they came from.

    Django would read from the router's database for reads, which may be a lagging replica.
    """

    class Meta:
        abstract = True

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
