"""Acknowledge a message that takes long, before the broker gives up on its worker.

Celery acknowledges the outbox's messages when they are done (`acks_late`), so that a worker which
ends takes none along. But RabbitMQ closes the channel of a consumer that does not acknowledge for
half an hour (`consumer_timeout`), which ends the worker; Redis and SQS send the message once more.
A message that is some minutes old needs its broker no longer: the lease of each delivery in it is
in the database, and what a dead worker leaves is sent again from there.
"""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from celery import bootsteps
from celery.worker import state

#: Seconds after which a message is acknowledged although it is not done, and how often that is
#: looked at. RabbitMQ's shortest sensible `consumer_timeout` is a minute, its default 30 minutes.
AFTER_SECONDS = 300.0
EVERY_SECONDS = 15.0

TASK = "outbox.deliver"


class AcknowledgeStep(bootsteps.StartStopStep):
    """Looks at the messages in hand from the worker's main process.

    In the pool `solo` nothing can be done there while a message is in hand.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._seen: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Look at them every few seconds."""
        every = min(EVERY_SECONDS, AFTER_SECONDS)
        self._timer = consumer.timer.call_repeatedly(every, self.acknowledge_old)

    def stop(self, consumer: Any) -> None:
        """Look at them no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def acknowledge_old(self) -> None:
        """Acknowledge the messages that were received too long ago."""
        now = time.monotonic()
        for request in list(state.reserved_requests):
            if request.name != TASK or request.acknowledged:
                continue
            if now - self._seen.setdefault(request, now) >= AFTER_SECONDS:
                request.acknowledge()
