"""What webhooks does by the clock: beat sends these."""

from __future__ import annotations

from celery import shared_task

from webhooks import services


@shared_task(name="webhooks.forget_old_messages", ignore_result=True)
def forget_old_messages() -> None:
    services.forget_old_messages()
