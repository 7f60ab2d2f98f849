"""The relay in the shape that was rejected (docs/decisions/0001): each nudge is a task.

No loop to speak of: it looks once an hour, and a nudge starts `outbox.relay` in the pool.
"""

from typing import Any

from benchmarks.project.ours.settings import *  # noqa: F403  as it is, but for the shape
from outbox.transports import celery_broker

OUTBOX = {"POLL_SECONDS": 3600.0}


def _send(connection: Any) -> None:
    from outbox.tasks import run_relay  # needs the apps

    run_relay.apply_async(queue="outbox", retry=False, connection=connection)


celery_broker._send = _send
