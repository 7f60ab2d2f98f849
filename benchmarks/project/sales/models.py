"""An order, and the effect of its handler. Neither is ever updated."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    order_id = models.UUIDField(unique=True)
    total = models.PositiveIntegerField()

    def __str__(self) -> str:
        return str(self.order_id)


class Effect(models.Model):
    """One for each run of a handler that committed: two for one order are a fault, and counted."""

    order_id = models.UUIDField(db_index=True)
    quantity = models.PositiveIntegerField()

    def __str__(self) -> str:
        return str(self.order_id)
