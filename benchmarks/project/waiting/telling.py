from __future__ import annotations

from uuid import uuid4

from benchmarks.project.ours.telling import tell as tell_of_order
from benchmarks.project.payload import Payload
from outbox import emit

from . import NOTED_BESIDE
from .events import OrderNoted


def tell(payload: Payload) -> None:
    """Emit what both handlers hear, and more for the quick one."""
    tell_of_order(payload)
    for _ in range(NOTED_BESIDE):
        emit(OrderNoted(order_id=uuid4()))
