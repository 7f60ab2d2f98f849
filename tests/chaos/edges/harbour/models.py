from django.db import models


class Ship(models.Model):
    """A ship with the number of its events."""

    name = models.CharField(max_length=20, primary_key=True)
    sailed = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.sailed}"


class Berth(models.Model):
    """The effect of a received message, one row for each committed run of the handler."""

    message = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.message
