"""Send goods to another shard, and take them in."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import F

from outbox import emit

from .events import StockSent
from .models import Movement, Stock


def send(*, sku: str, quantity: int, transfer: UUID, of: str, to: str) -> None:
    """Take a quantity from the stock of one shard, and emit that it is on its way to another."""
    with transaction.atomic(using=of):
        _move(sku, -quantity, transfer, using=of)
        emit(StockSent(sku=sku, transfer=transfer, quantity=quantity, to=to))


def take_in(*, sku: str, quantity: int, transfer: UUID, using: str) -> None:
    """Add a quantity to the stock of a shard, in the caller's transaction."""
    _move(sku, quantity, transfer, using=using)


def _move(sku: str, change: int, transfer: UUID, *, using: str) -> None:
    Stock.objects.using(using).filter(sku=sku).update(quantity=F("quantity") + change)
    Movement.objects.using(using).create(transfer=transfer, sku=sku, change=change)
