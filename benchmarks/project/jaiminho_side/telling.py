from __future__ import annotations

from jaiminho.send import save_to_outbox

from benchmarks.project.payload import Payload

from .tasks import record_effect


@save_to_outbox
def tell(payload: Payload) -> None:
    """Stored instead of called; the relay calls it."""
    record_effect.delay(payload)
