from __future__ import annotations

import time
from uuid import UUID

from outbox import Receipt, subscribe

SECONDS = 0.1


@subscribe("ours.OrderPlaced", atomic=False, queue="outside")
def ask_outside(order_id: UUID, receipt: Receipt) -> None:
    """Wait, as for a bank."""
    time.sleep(SECONDS)
    with receipt:
        pass
