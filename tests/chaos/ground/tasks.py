from __future__ import annotations

from celery import shared_task

from outbox.celery import OutboxTask

from .models import Effect


# Celery itself loses no task of a worker that dies.
@shared_task(base=OutboxTask, queue="ground.tasks", acks_late=True, ignore_result=True)
def record_call(event_id: str) -> None:
    """Record a run of the task."""
    Effect.objects.create(handler="task", event_id=event_id)
