"""Producers on the outbox's own connections to the broker, each used by one thread at a time.

A time limit interrupts a thread at any line: while it waits for RabbitMQ's confirm, and also while
it closes the connection afterwards. kombu's pools count what was taken and not returned. So there
ten interruptions use up the pool's limit until the process ends. Here nothing is counted: a
producer is idle, or it belongs to the block that uses it. Whatever ends that block with an
exception drops the producer and its connection.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from amqp.exceptions import MessageNacked
from celery import Celery
from kombu import Producer

from .base import QueueUnavailable
from .celery_settings import own_connection

logger = logging.getLogger("outbox.producers")


class _Idle:
    """The producers of a process that no thread uses."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.producers: deque[Producer] = deque()  # its append and pop are atomic


_idle: WeakKeyDictionary[Celery, _Idle] = WeakKeyDictionary()


@contextmanager
def producer(app: Celery) -> Iterator[Producer]:
    """Yield a producer of this app that no other thread uses. It connects when it is used.

    An exception in the block, also an interruption, closes its connection without waiting for the
    broker: the channel may await an answer that never comes.
    """
    idle = _idle_of(app)
    try:
        taken = idle.pop()
    except IndexError:
        taken = Producer(own_connection(app))
    try:
        yield taken
    except BaseException:
        _abandon(taken)
        raise
    idle.append(taken)


def blame_queue(error: Exception, queue: str, app: Celery) -> None:
    """Return if the whole broker may have failed, and not only the queue of a message.

    Args:
        error: why the message was not sent.
        queue: its queue.
        app: the app whose broker it is.

    Raises:
        QueueUnavailable: RabbitMQ refused the message, or does not confirm it and takes others.
    """
    if _caused_by(error, MessageNacked):
        raise QueueUnavailable(
            f"RabbitMQ has refused a message for the queue {queue} (basic.nack). No node leads the "
            "queue, or it is full and rejects messages (x-overflow). " + _next_step(queue)
        ) from error
    if _caused_by(error, TimeoutError) and _takes_messages(app):
        raise QueueUnavailable(
            f"RabbitMQ has not confirmed a message for the queue {queue} in time, and takes other "
            "messages. Probably no node leads the queue. " + _next_step(queue)
        ) from error


def _next_step(queue: str) -> str:
    return (
        f"Run `rabbitmq-queues quorum_status {queue}`. Start the nodes of its members, or delete "
        "the queue if it is lost. Its messages stay stored, and are sent again."
    )


def _caused_by(error: Exception, kind: type[Exception]) -> bool:
    """Return whether an error, or the one that kombu made its own error of, is of this kind."""
    return isinstance(error, kind) or isinstance(error.__cause__, kind)


def _takes_messages(app: Celery) -> bool:
    """Return whether RabbitMQ takes a message now, one for no queue. It stores nothing.

    It confirms a message at once that it routes to no queue, but none while an alarm of
    memory or disk blocks all publishers.
    https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed
    """
    try:
        with producer(app) as probing:
            if not _is_rabbitmq(probing):
                return False
            nowhere = f"outbox.nowhere.{uuid4()}"
            probing.publish("", exchange="", routing_key=nowhere, retry=False)
    except Exception as error:
        logger.debug("The broker takes no message: %s: %s", type(error).__name__, error)
        return False
    return True


def _idle_of(app: Celery) -> deque[Producer]:
    found = _idle.get(app)
    if found is None or found.process != os.getpid():  # a fork shares the sockets of its parent
        found = _idle[app] = _Idle()
    return found.producers


def _abandon(one: Producer) -> None:
    """Close a producer's connection without a word to the broker, and without waiting for it."""
    connection: Any = one.connection
    try:
        if not _is_rabbitmq(one):
            connection.release()
            return
        if connection.connected:
            connection.connection.sock.settimeout(0)  # TLS would wait for the end of its session
        connection.collect()
    except Exception as error:
        logger.debug("closing a broken connection: %s", error)


def _is_rabbitmq(one: Producer) -> bool:
    connection: Any = one.connection
    return bool(connection.transport.driver_type == "amqp")
