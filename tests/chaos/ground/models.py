from django.db import models


class Effect(models.Model):
    """What a handler did, once for each run that committed. Twice for one event is a fault."""

    handler = models.CharField(max_length=50)
    event_id = models.UUIDField()
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["handler", "event_id"])]

    def __str__(self) -> str:
        return f"{self.handler} {self.event_id}"
