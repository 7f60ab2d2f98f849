from django.db import models


class Thing(models.Model):
    """What the teller tells of, and how often it has."""

    id = models.UUIDField(primary_key=True)
    told = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.id}: {self.told}"


class Effect(models.Model):
    """What a handler did, once for each run that committed, in the order in which they did."""

    handler = models.CharField(max_length=50)
    thing_id = models.UUIDField()
    number = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.handler} {self.thing_id} {self.number}"
