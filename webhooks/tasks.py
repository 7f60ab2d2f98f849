"""Periodic tasks of webhooks, sent by beat."""

from __future__ import annotations

from celery import shared_task

from webhooks import services


@shared_task(name="webhooks.forget", ignore_result=True)
def forget() -> None:
    services.forget_old_messages()
    services.forget_old_secrets()
