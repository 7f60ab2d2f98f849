from __future__ import annotations

from django.db import models


class Tally(models.Model):
    """How many orders a customer has placed: the row for which all workers contend."""

    customer = models.CharField(max_length=100, primary_key=True)
    orders = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.customer}: {self.orders}"
