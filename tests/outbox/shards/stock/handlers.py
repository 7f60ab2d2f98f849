"""A transfer in two steps: pass the event on to the other shard, and take the goods in there."""

from __future__ import annotations

import time
from uuid import UUID

from django.db import transaction

from outbox import Receipt, databases, emit, subscribe

from . import services
from .events import StockArrived

#: Seconds in which a test may kill the process between two steps.
_PAUSE = 0.02


@subscribe("stock.StockSent", atomic=False)
def pass_on(
    sku: str, transfer: UUID, quantity: int, to: str, event_id: UUID, receipt: Receipt
) -> None:
    """Store the arrival in the other shard, once: a repetition finds the id of its event used."""
    with transaction.atomic(using=to):
        arrived = StockArrived(sku=sku, transfer=transfer, quantity=quantity)
        emit(arrived, using=to, dedupe_key=str(event_id))
    time.sleep(_PAUSE)
    with receipt:
        pass


@subscribe("stock.StockArrived")
def take_in(sku: str, transfer: UUID, quantity: int) -> None:
    """Take the goods in, in the transaction of the receipt."""
    using = databases.alias()
    services.take_in(sku=sku, quantity=quantity, transfer=transfer, using=using)
    time.sleep(_PAUSE)
