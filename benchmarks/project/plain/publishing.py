from __future__ import annotations

from functools import partial

from django.db import transaction

from benchmarks.project.payload import Payload

from .tasks import record_effect


def publish(payload: Payload) -> None:
    """Send the task after the order's commit. A crash between the two loses it."""
    transaction.on_commit(partial(record_effect.delay, payload))
