from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A row of a customer's schema."""

    text = models.TextField()
    path = models.TextField(help_text="The search path of the handler that wrote it.")

    class Meta:
        app_label = "notes"

    def __str__(self) -> str:
        return self.text
