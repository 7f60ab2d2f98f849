"""Parcels: rows that are saved only under their lock."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models

from outbox.guards.locks import mark_locked, saved_under_lock


class ParcelQuerySet(models.QuerySet["Parcel"]):
    def locked(self, parcel_id: uuid.UUID) -> Parcel:
        """Return the parcel, locked until the transaction ends."""
        return mark_locked(self.select_for_update().get(pk=parcel_id))


@saved_under_lock
class Parcel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=20, default="posted")
    address = models.CharField(max_length=200, blank=True)

    objects = ParcelQuerySet.as_manager()

    def __str__(self) -> str:
        return str(self.pk)


class Shelf(models.Model):
    """A row that any code may save."""

    name = models.CharField(max_length=50, primary_key=True)

    objects: ClassVar[models.Manager[Shelf]] = models.Manager()

    def __str__(self) -> str:
        return self.name
