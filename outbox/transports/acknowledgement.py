"""Acknowledge a long-running message before the broker closes its consumer or repeats the message.

Celery acknowledges the outbox's messages when they are done (`acks_late`), so a worker that ends
loses none. But RabbitMQ closes the channel of a consumer that does not acknowledge for half an hour
(`consumer_timeout`), and this ends the worker. Redis and SQS send the message again. A message that
is some minutes old no longer needs the broker. The leases of its deliveries are in the database, so
a relay sends the deliveries of a dead worker again.
"""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from celery import bootsteps
from celery.worker import state

#: Seconds after which an unfinished message is acknowledged, and seconds between two checks.
#: RabbitMQ's shortest sensible `consumer_timeout` is a minute, its default 30 minutes.
AFTER_SECONDS = 300.0
EVERY_SECONDS = 15.0

TASK = "outbox.deliver"


class AcknowledgeStep(bootsteps.StartStopStep):
    """Checks the running messages in the worker's main process.

    In the pool `solo` it cannot: the main process runs the message itself.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._seen: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Start the repeated check."""
        every = min(EVERY_SECONDS, AFTER_SECONDS)
        self._timer = consumer.timer.call_repeatedly(every, self.acknowledge_old)

    def stop(self, consumer: Any) -> None:
        """Stop the check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def acknowledge_old(self) -> None:
        """Acknowledge the messages that were received `AFTER_SECONDS` ago or more."""
        now = time.monotonic()
        for request in list(state.reserved_requests):
            if request.name != TASK or request.acknowledged:
                continue
            if now - self._seen.setdefault(request, now) >= AFTER_SECONDS:
                request.acknowledge()
