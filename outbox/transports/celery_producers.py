"""Producers on the outbox's own connections to the broker, each used by one thread at a time.

A time limit interrupts a thread at any line: while it waits for RabbitMQ's confirm, and also while
it closes the connection afterwards. kombu's pools count what was taken and not returned. So there
ten interruptions use up the pool's limit until the process ends. Here nothing is counted: a
producer is idle, or it belongs to the block that uses it. Whatever ends that block with an
exception drops the producer and its connection. Idle ones are dropped with it: a broker that was
restarted has ended their connections, too.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from kombu import Producer

from .celery_settings import own_connection

logger = logging.getLogger("outbox.producers")

#: Idle producers that a process keeps, each with a connection.
_MOST_IDLE = 10


class _Idle:
    """The producers of a process that no thread uses."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.producers: deque[Producer] = deque()  # its append and pop are atomic


_idle: WeakKeyDictionary[Celery, _Idle] = WeakKeyDictionary()


@contextmanager
def producer(app: Celery) -> Iterator[Producer]:
    """Yield a producer of this app that no other thread uses. It connects when it is used.

    An exception in the block, also an interruption, closes its connection and idle ones, without
    waiting for the broker: the channel may await an answer that never comes.
    """
    idle = _idle_of(app)
    try:
        taken = idle.pop()
    except IndexError:
        taken = Producer(own_connection(app))
    try:
        yield taken
    except BaseException:
        abandon(taken)
        _abandon_all(idle)
        raise
    if len(idle) < _MOST_IDLE:
        idle.append(taken)
    else:
        abandon(taken)


def _abandon_all(idle: deque[Producer]) -> None:
    with suppress(IndexError):  # other threads take some
        while True:
            abandon(idle.pop())


def _idle_of(app: Celery) -> deque[Producer]:
    found = _idle.get(app)
    if found is None or found.process != os.getpid():  # a fork shares the sockets of its parent
        found = _idle[app] = _Idle()
    return found.producers


def abandon(one: Producer) -> None:
    """Close a producer's connection without a word to the broker, and without waiting for it."""
    connection: Any = one.connection
    try:
        if not is_rabbitmq(one):
            connection.release()
            return
        if connection.connected:
            connection.connection.sock.settimeout(0)  # TLS would wait for the end of its session
        connection.collect()
    except Exception as error:
        logger.debug("closing a broken connection: %s", error)


def is_rabbitmq(one: Producer) -> bool:
    connection: Any = one.connection
    return bool(connection.transport.driver_type == "amqp")
