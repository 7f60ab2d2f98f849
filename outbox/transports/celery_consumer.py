"""The worker's consumer, which survives a loss of the broker while messages are running.

With kombu 5.7, a worker that runs a message when its broker dies ends with "'NoneType' object has
no attribute 'hostname'". It tries to return the message through the connection that it closes, and
later to acknowledge it there. Neither is needed here. The delivery's lease covers a message that
was not done. The delivery's token covers a message that is delivered twice.

With Celery 5.7, the queue of a worker for remote control is exclusive to its connection. A worker
whose host was cut off connects again before RabbitMQ has noticed that the old connection is lost.
RabbitMQ then refuses the queue (405, RESOURCE_LOCKED), which ends Celery's worker. Here it is
tried again, as a lost connection is.
https://www.rabbitmq.com/docs/queues#exclusive-queues
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.utils.imports import symbol_by_name
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

from .celery_broker import TASK

logger = logging.getLogger("outbox.worker")

#: AMQP's code of a refusal, since a queue is exclusive to another connection.
_RESOURCE_LOCKED = 405
#: Seconds between two tries to get a queue that RabbitMQ has not released.
_LOCKED_SECONDS = 2.0


class Consumer(CeleryConsumer):
    """Reconnects while messages are running. Celery's setting `worker_consumer` selects it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own: Any = self  # the stubs lack these attributes
        errors = own.conninfo.recoverable_channel_errors  # a locked queue is one of them
        own.connection_errors = (*own.connection_errors, *errors)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Release the running messages, close the lost connection and reconnect.

        The setting `worker_cancel_long_running_tasks_on_connection_loss` cancels running tasks that
        are not acknowledged. It must not end a handler: the delivery's lease continues.
        """
        for request in list(state.active_requests):
            if request.name == TASK:
                request.acknowledged = True
        for channel in _virtual_channels(self.connection):
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _ignore
        super().on_connection_error_after_connected(exc)
        if getattr(exc, "code", None) == _RESOURCE_LOCKED:
            logger.warning(
                "RabbitMQ has not released a queue of this worker's lost connection. The worker "
                "connects again in %g s, until RabbitMQ notices the loss: %s",
                _LOCKED_SECONDS,
                exc,
            )
            time.sleep(_LOCKED_SECONDS)


def is_ours(name: Any) -> bool:
    """Return whether a value of `worker_consumer` selects the class above or a subclass."""
    found = symbol_by_name(name)
    return isinstance(found, type) and issubclass(found, Consumer)


def _virtual_channels(connection: Any) -> list[Any]:
    """Return the channels that kombu emulates, as for Redis. AMQP's channels need no change."""
    # The public attribute would reconnect first, and raise while the broker is away.
    channels = getattr(connection._connection, "channels", None)
    return list(channels) if isinstance(channels, list) else []


def _ignore(*_args: object, **_kwargs: object) -> None:
    """Ignore the ack of a message that was received over a lost connection."""
