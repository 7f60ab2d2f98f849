"""What webhooks does by the clock: beat sends these."""

from __future__ import annotations

from celery import shared_task

from webhooks import services


@shared_task(name="webhooks.forget", ignore_result=True)
def forget() -> None:
    services.forget_old_messages()
    services.forget_old_secrets()
