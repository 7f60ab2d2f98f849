from __future__ import annotations

from jaiminho.send import save_to_outbox

from benchmarks.project.payload import Payload

from .tasks import record_effect


@save_to_outbox
def publish(payload: Payload) -> None:
    """Store the call; the relay makes it."""
    record_effect.delay(payload)
