"""Stock of goods in a shard, and the transfers that left it or arrived in it."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class Stock(models.Model):
    """The quantity of an article in a shard."""

    sku = models.CharField(max_length=20, primary_key=True)
    quantity = models.PositiveIntegerField(default=0)

    objects: ClassVar[models.Manager[Stock]] = models.Manager()

    def __str__(self) -> str:
        return self.sku


class Movement(models.Model):
    """A quantity that left a shard (below zero) or arrived in it. A transfer has one of each."""

    id = models.BigAutoField(primary_key=True)
    transfer = models.UUIDField(default=uuid.uuid4)
    sku = models.CharField(max_length=20)
    change = models.IntegerField()

    objects: ClassVar[models.Manager[Movement]] = models.Manager()

    def __str__(self) -> str:
        return f"{self.transfer} {self.change}"
