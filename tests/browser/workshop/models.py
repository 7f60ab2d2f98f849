from __future__ import annotations

from typing import ClassVar

from django.db import models


class Repair(models.Model):
    reference = models.CharField(max_length=80)
    item = models.CharField(max_length=200)
    customer = models.CharField(max_length=200)
    fault = models.TextField()
    remedy = models.TextField()
    address = models.CharField(max_length=200)
    carrier = models.CharField(max_length=80)
    received_at = models.DateTimeField()
    promised_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.reference
