from __future__ import annotations

from benchmarks.project.payload import Payload
from outbox import emit

from .events import OrderPlaced


def publish(payload: Payload) -> None:
    """Emit."""
    emit(OrderPlaced(**payload))
