from __future__ import annotations

from uuid import UUID

from django.db.models import F

from benchmarks.project.sales.services import record
from outbox import subscribe

from .models import Tally


@subscribe("hot.CustomerOrdered", shared_transaction=False)
def count_order(customer: str, order_id: UUID) -> None:
    """Change the one row, then leave the effect that is counted."""
    mine = Tally.objects.filter(customer=customer)
    if not mine.update(orders=F("orders") + 1):
        Tally.objects.bulk_create([Tally(customer=customer)], ignore_conflicts=True)
        mine.update(orders=F("orders") + 1)
    record(order_id, [1])
