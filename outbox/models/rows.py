from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models


class Row(models.Model):
    """A row that is read again, and its deferred columns, from the database that it is of.

    Django asks the router, which may name a replica that is behind.
    """

    class Meta:
        abstract = True

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        """Read columns again, as Django does, of `using` or of the row's own database."""
        # `from_queryset` names its database itself.
        using = using if using or from_queryset is not None else self._state.db
        super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
