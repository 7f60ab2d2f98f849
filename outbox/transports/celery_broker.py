"""The Celery transport: messages and nudges through the broker of the project's Celery app.

A nudge is an empty message to a fanout exchange. It reaches every running relay and is not stored
for others.
"""

from __future__ import annotations

import logging

from celery import Celery, current_app
from kombu import Connection, Exchange, Producer, Queue

from .base import Message

logger = logging.getLogger("outbox.nudge")

#: The task that runs a message's deliveries.
TASK = "outbox.deliver"
EXCHANGE = Exchange("outbox.nudge", type="fanout", durable=False, delivery_mode="transient")


class CeleryTransport:
    """Sends messages as tasks. It keeps a connection for nudges, so one thread nudges with it."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def dispatch(self, message: Message) -> None:
        """Send a message, without a retry: the relay retries from the database."""
        current_app.tasks[TASK].apply_async(
            args=(message.handler, message.pairs),
            kwargs={"subscription": message.subscription, "refill": message.refill},
            queue=message.queue,
            retry=False,
            argsrepr=f"({message.handler!r}, {len(message.pairs)} deliveries)",  # type: ignore[call-arg]
        )

    def nudge(self) -> None:
        """Nudge all running relays."""
        try:
            self._connection = self._connection or _connect(current_app)
            _send(self._connection)
        except Exception:
            _close(self._connection)
            self._connection = None
            raise

    def is_available(self) -> bool:
        """Return whether the broker answers within the socket timeout of Celery's transport."""
        try:
            with current_app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
                connection.default_channel  # noqa: B018  opening the channel is the round trip
        except Exception:
            return False
        return True


def nudge_queue(name: str) -> Queue:
    """Return the nudge queue of a process. The broker deletes it after the process ends."""
    own = f"{EXCHANGE.name}.{name}"
    return Queue(own, EXCHANGE, durable=False, auto_delete=True, expires=60, max_length=1)


def _connect(app: Celery) -> Connection:
    connection = app.connection_for_write()
    connection.ensure_connection(max_retries=1, timeout=1)
    EXCHANGE(connection.default_channel).declare()
    return connection


def _send(connection: Connection) -> None:
    producer = Producer(connection.default_channel, exchange=EXCHANGE, auto_declare=False)
    producer.publish({}, serializer="json", retry=False)


def _close(connection: Connection | None) -> None:
    try:
        if connection is not None:
            connection.release()
    except Exception as error:
        logger.debug("closing a broken connection: %s", error)
