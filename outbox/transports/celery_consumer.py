"""The worker's consumer, made to outlive a broker that goes away while work is in hand.

With kombu 5.7 a worker that has a message in hand when its broker dies ends with "'NoneType' object
has no attribute 'hostname'": it tries to put the message back through the connection that it is
closing, and later to ack it there. Neither is needed here. The delivery's lease sees to a message
whose work was not done, its token to one that comes again.
"""

from __future__ import annotations

from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):
    """Reconnects whatever is in hand. Celery uses it by its setting `worker_consumer`."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the messages in hand, then close the lost connection and connect again."""
        for channel in _virtual_channels(self.connection):
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _in_vain
        super().on_connection_error_after_connected(exc)


def _virtual_channels(connection: Any) -> list[Any]:
    """List the channels that kombu emulates, as for Redis; AMQP's own need no help."""
    # Not by its public name: that one connects again first, and raises while the broker is away.
    channels = getattr(connection._connection, "channels", None)
    return list(channels) if isinstance(channels, list) else []


def _in_vain(*_args: object, **_kwargs: object) -> None:
    """Take the ack of a message that came over a connection which is gone."""
