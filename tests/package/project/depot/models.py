from django.db import models


class Parcel(models.Model):
    """The emitters' book: how many events of a kind were emitted for a parcel."""

    parcel = models.CharField(max_length=50)
    event = models.CharField(max_length=50)
    number = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["parcel", "event"], name="depot_parcel_once")
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.parcel}"


class Entry(models.Model):
    """The handlers' book: one row for each effect."""

    handler = models.CharField(max_length=50)
    event = models.CharField(max_length=50)
    parcel = models.CharField(max_length=50)
    number = models.PositiveIntegerField()
    target = models.CharField(max_length=50)
    emitted_with = models.CharField(max_length=50)
    handled_with = models.CharField(max_length=50)

    def __str__(self) -> str:
        return f"{self.handler} {self.parcel} {self.number}"
