from __future__ import annotations

from benchmarks.project.payload import Payload

from .tasks import record_effect


def publish(payload: Payload) -> None:
    """Store the task's call; the relay sends it."""
    record_effect.delay(payload)
