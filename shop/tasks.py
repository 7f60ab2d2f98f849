"""Periodic tasks of the shop as a whole, sent by beat."""

from __future__ import annotations

from celery import shared_task

from shop import reconciliation


@shared_task(name="shop.reconcile", ignore_result=True)
def reconcile() -> None:
    reconciliation.store(reconciliation.reconcile())
