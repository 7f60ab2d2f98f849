"""What beat does for the API."""

from __future__ import annotations

from celery import shared_task

from .guessing import forget_wrong_tokens
from .idempotency import forget_old_answers


@shared_task(name="api.forget_old_answers", ignore_result=True)
def forget_answers() -> None:
    """Delete the answers and the wrong tokens that are kept long enough."""
    forget_old_answers()
    forget_wrong_tokens()
