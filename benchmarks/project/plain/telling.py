from __future__ import annotations

from functools import partial

from django.db import transaction

from benchmarks.project.payload import Payload

from .tasks import record_effect


def tell(payload: Payload) -> None:
    """Tell the broker once the order is committed; a crash in between loses it."""
    transaction.on_commit(partial(record_effect.delay, payload))
