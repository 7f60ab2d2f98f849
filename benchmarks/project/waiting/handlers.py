from __future__ import annotations

import time
from uuid import UUID

from benchmarks.project.sales.services import record
from outbox import Receipt, subscribe

SECONDS = 0.1


@subscribe("ours.OrderPlaced", atomic=False, queue="outside")
def ask_outside(order_id: UUID, receipt: Receipt) -> None:
    """Wait, as for a bank."""
    time.sleep(SECONDS)
    with receipt:
        pass


@subscribe("waiting.OrderNoted", queue="ours")
def note(order_id: UUID) -> None:
    """Write, as quickly as the other queue's handler does."""
    record(order_id, [1])
