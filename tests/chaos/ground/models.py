from django.db import models


class Effect(models.Model):
    """An effect of a handler, one row for each committed run. Two for one event are an error."""

    handler = models.CharField(max_length=50)
    event_id = models.UUIDField()
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["handler", "event_id"])]

    def __str__(self) -> str:
        return f"{self.handler} {self.event_id}"
