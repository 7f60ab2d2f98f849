from __future__ import annotations

from benchmarks.project.payload import Payload

from .tasks import record_effect


def publish(payload: Payload) -> None:
    """Store the task in the caller's transaction."""
    record_effect.enqueue(payload=payload)
