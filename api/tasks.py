"""Periodic tasks of the API, sent by beat."""

from __future__ import annotations

from celery import shared_task

from .guessing import forget_wrong_tokens
from .idempotency import forget_old_answers


@shared_task(name="api.forget_old_answers", ignore_result=True)
def forget_answers() -> None:
    """Delete expired answers and wrong tokens."""
    forget_old_answers()
    forget_wrong_tokens()
