from __future__ import annotations

from benchmarks.project.payload import Payload
from outbox import emit

from .events import CustomerOrdered


def publish(payload: Payload) -> None:
    """Emit."""
    emit(CustomerOrdered(customer=payload["customer"], order_id=payload["order_id"]))
