from django.db import models


class Thing(models.Model):
    """A thing with the number of its changes."""

    id = models.UUIDField(primary_key=True)
    changes = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.id}: {self.changes}"


class Effect(models.Model):
    """An effect of a handler, one row for each committed run, in order of the commits."""

    handler = models.CharField(max_length=50)
    thing_id = models.UUIDField()
    number = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.handler} {self.thing_id} {self.number}"
