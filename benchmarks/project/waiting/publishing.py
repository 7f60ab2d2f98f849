from __future__ import annotations

from uuid import uuid4

from benchmarks.project.ours.publishing import publish as publish_order
from benchmarks.project.payload import Payload
from outbox import emit

from . import NOTED_BESIDE
from .events import OrderNoted


def publish(payload: Payload) -> None:
    """Emit one event for both handlers, and more events for the quick one."""
    publish_order(payload)
    for _ in range(NOTED_BESIDE):
        emit(OrderNoted(order_id=uuid4()))
