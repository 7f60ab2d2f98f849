from django.db import models


class Order(models.Model):
    """An order that a request has placed."""

    number = models.CharField(max_length=50, unique=True)
    placed_with = models.CharField(max_length=10)
    # The old release inserts orders without it.
    shipping = models.IntegerField(default=0, db_default=0)

    def __str__(self) -> str:
        return self.number


class Entry(models.Model):
    """An effect of a handler. Nothing but the outbox prevents a second row for an order."""

    effect = models.CharField(max_length=50)
    order = models.CharField(max_length=50)
    amount = models.IntegerField()
    emitted_with = models.CharField(max_length=10)
    handled_with = models.CharField(max_length=10)

    def __str__(self) -> str:
        return f"{self.effect} {self.order}"
