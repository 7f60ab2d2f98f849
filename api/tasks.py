"""What beat does for the API."""

from __future__ import annotations

from celery import shared_task

from .idempotency import forget_old_answers


@shared_task(name="api.forget_old_answers", ignore_result=True)
def forget_answers() -> None:
    """Delete the answers that are kept long enough."""
    forget_old_answers()
