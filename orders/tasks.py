"""Periodic tasks of orders, sent by beat."""

from __future__ import annotations

from celery import shared_task

from orders import services


@shared_task(name="orders.cancel_overdue", ignore_result=True)
def cancel_overdue() -> None:
    services.cancel_overdue()
