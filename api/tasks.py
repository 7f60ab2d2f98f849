"""Periodic tasks of the API, sent by beat."""

from __future__ import annotations

from celery import shared_task

from .idempotency import delete_old_answers
from .throttling import delete_old_wrong_tokens


@shared_task(name="api.delete_old_rows", ignore_result=True)
def delete_old_rows() -> None:
    """Delete expired answers and wrong tokens."""
    delete_old_answers()
    delete_old_wrong_tokens()
