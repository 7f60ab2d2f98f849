"""Periodic tasks of webhooks, sent by beat."""

from __future__ import annotations

from celery import shared_task

from webhooks import services


@shared_task(name="webhooks.delete_old_rows", ignore_result=True)
def delete_old_rows() -> None:
    services.delete_old_messages()
    services.delete_old_secrets()
