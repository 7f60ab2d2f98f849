"""The Celery transport: messages and nudges through the broker of the project's Celery app.

A nudge is an empty message to a fanout exchange. It reaches every running relay and is not stored
for others. A transport without fanout, such as SQS, carries no nudges: then the relay only polls.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from threading import Event
from typing import Any

from celery import Celery, current_app
from celery.app import app_or_default
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import OperationalError

from outbox import databases

from . import celery_refusals
from .base import NUDGES, QUEUE, Message, Relay
from .celery_producers import producer
from .celery_queues import (
    cause_of_refusal,
    hold_if_blamed,
    may_refuse,
    refuse_held,
    release,
    takes_messages,
)
from .celery_settings import address, connect_once, own_connection, queue_of

logger = logging.getLogger("outbox.nudge")

#: The task that runs a message's deliveries.
TASK = "outbox.deliver"
EXCHANGE = Exchange(NUDGES, type="fanout", durable=False, delivery_mode="transient")

#: Seconds to wait for a nudge, and after a lost connection, before `stopping` is read again.
_WAIT_SECONDS = 1.0


class CeleryTransport:
    """Sends messages as tasks. It keeps a connection for nudges, so one thread nudges with it."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._has_fanout: bool | None = None

    def dispatch(self, message: Message) -> None:
        """Send a message, without a retry: the relay retries from the database.

        Raises:
            QueueUnavailable: RabbitMQ refuses it or its queue, or does not confirm it and takes
                others. For some seconds, further messages for its queue are refused without asking
                RabbitMQ.
        """
        app, using = app_or_default(), message.database or databases.alias()
        refuse_held(message.queue, app, using=using)
        try:
            _send_task(app, message)
        except Exception as error:
            hold_if_blamed(error, message.queue, app, using=using)
            raise
        release(message.queue, app, using=using)

    def nudge(self) -> None:
        """Nudge all running relays, if the broker has fanout."""
        if self._has_fanout is None:
            self._has_fanout = has_fanout(current_app.connection_for_write())
        if not self._has_fanout:
            return
        try:
            self._connection = self._connection or _connect(current_app)
            _send(self._connection)
        except Exception as error:
            _close(self._connection)
            self._connection = None
            _report_refusal(error)
            raise
        celery_refusals.end_own(NUDGES)

    def is_available(self) -> bool:
        """Return whether the broker takes messages within the timeouts of our connections.

        RabbitMQ also opens channels while an alarm of memory or disk blocks all publishers.
        """
        app = app_or_default()
        try:
            with own_connection(app) as connection:
                open_channel(connection)
            return not may_refuse(app) or takes_messages(app)
        except Exception:
            return False


def _send_task(app: Celery, message: Message) -> None:
    args, kwargs = _arguments(message)
    with producer(app) as taken:
        app.tasks[TASK].apply_async(
            args=args,
            kwargs=kwargs,
            producer=taken,
            retry=False,
            argsrepr=f"({message.handler!r}, {len(message.pairs)} deliveries)",  # type: ignore[call-arg]
            **address(queue_of(app, message.queue)),
        )


def _arguments(message: Message) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the task that runs a message's deliveries.

    A worker of a release without `OUTBOX["DATABASES"]` ignores unknown arguments and works on the
    default database. So a message for another database has no pairs where that worker reads them.
    Its deliveries are sent again when their leases expire.
    """
    more: dict[str, Any] = {"subscription": message.subscription, "refill": message.refill}
    if not message.database:
        return (message.handler, message.pairs), more
    more["database"] = message.database
    if message.database == databases.aliases()[0]:
        return (message.handler, message.pairs), more
    return (message.handler, ()), {**more, "pairs_there": message.pairs}


def has_fanout(connection: Connection) -> bool:
    """Return whether one message reaches the queues of all relays. It sends nothing."""
    return bool(connection.supports_exchange_type("fanout"))


def open_channel(connection: Connection) -> Any:
    """Open the connection's channel with a round trip to the broker.

    Raises:
        Exception: the broker does not answer, or refuses. Each transport has its own classes.
    """
    connect_once(connection)
    channel: Any = connection.default_channel  # the round trip, but not with SQS
    if not has_fanout(connection):
        channel.queue_declare(QUEUE, passive=True)
    return channel


def nudge_queue(name: str) -> Queue:
    """Return the nudge queue of a process. The broker deletes it after the process ends."""
    own = f"{EXCHANGE.name}.{name}"
    return Queue(own, EXCHANGE, durable=False, auto_delete=True, expires=60, max_length=1)


def forward_nudges(relay: Relay, stopping: Event) -> None:
    """Forward nudges to a relay outside of a Celery worker, until `stopping` is set.

    While the broker is down, and with a broker without fanout, the relay polls without them.
    """
    if not has_fanout(current_app.connection_for_read()):
        stopping.wait()
        return
    while not stopping.is_set():
        connection = own_connection(current_app, is_for_reading=True)
        lost: tuple[type[BaseException], ...] = (OSError, OperationalError)
        lost += connection.connection_errors
        try:
            _consume_nudges(connection, relay, stopping)
        except lost:
            stopping.wait(_WAIT_SECONDS)
        finally:
            with suppress(*lost):
                connection.release()


def _consume_nudges(connection: Connection, relay: Relay, stopping: Event) -> None:
    connect_once(connection)
    queues = [nudge_queue(f"relay@{socket.gethostname()}.{os.getpid()}")]
    with Consumer(connection, queues, on_message=lambda _: relay.nudge(), no_ack=True):
        while not stopping.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=_WAIT_SECONDS)


def _connect(app: Celery) -> Connection:
    connection = own_connection(app)
    connect_once(connection)
    EXCHANGE(connection.default_channel).declare()
    return connection


def _send(connection: Connection) -> None:
    producer = Producer(connection.default_channel, exchange=EXCHANGE, auto_declare=False)
    producer.publish({}, serializer="json", retry=False)


def _report_refusal(error: Exception) -> None:
    """Report a nudge that RabbitMQ refuses, in each database: it is for the relays of all."""
    if cause := cause_of_refusal(error, current_app):
        for using in databases.aliases():
            celery_refusals.note(NUDGES, cause, using=using)


def _close(connection: Connection | None) -> None:
    try:
        if connection is not None:
            connection.release()
    except Exception as error:
        logger.debug("closing a broken connection: %s", error)
