"""Periodic tasks of the shop as a whole, sent by beat."""

from __future__ import annotations

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from shop import reconciliation


@shared_task(name="shop.reconcile", ignore_result=True)
def reconcile() -> None:
    reconciliation.store(reconciliation.reconcile())


@shared_task(name="shop.delete_old_sessions", ignore_result=True)
def delete_old_sessions() -> None:
    """Delete expired sessions. Django leaves their rows."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
