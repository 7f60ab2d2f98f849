"""Queues of RabbitMQ that take no message, although RabbitMQ takes others.

Without a leader, a quorum queue refuses a message, or does not confirm it. RabbitMQ also refuses to
declare a queue with other arguments than it has, or for a user without the permission. Each wait
for a confirm holds its caller for seconds. So the relay asks such a queue again after a pause,
which doubles.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from amqp.exceptions import (
    AccessRefused,
    MessageNacked,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from celery import Celery
from kombu import Producer

from . import celery_refusals
from .base import QueueUnavailable
from .celery_producers import abandon, is_rabbitmq
from .celery_settings import own_connection

logger = logging.getLogger("outbox.producers")

#: Seconds until a queue is asked again: first, and longest. A frozen network looks like a queue
#: without a leader if it recovers before other messages are tried, so the first pause is short.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0

_REFUSED = "RabbitMQ has refused a message: no node leads the queue, or it is full (x-overflow)"
_DIFFERS = "RabbitMQ refuses the queue's arguments, or its user has no permission"
_UNCONFIRMED = (
    "RabbitMQ has not confirmed a message in time, and takes others: probably no node leads the "
    "queue"
)
#: What follows the name of the queue in an error of each cause.
_MORE = {
    _REFUSED: ": no node leads it, or it is full (x-overflow).",
    _UNCONFIRMED: " in time, and takes others: probably no node leads it.",
    _DIFFERS: ": its arguments differ from the settings, or the user has no permission.",
}
#: Errors of a channel, by which RabbitMQ refuses one queue or its exchange. It takes others.
_CHANNEL_ERRORS = (AccessRefused, NotFound, PreconditionFailed, ResourceLocked)


@dataclass(frozen=True)
class _Held:
    """A queue that is not asked.

    Attributes:
        refusal: its latest error.
        pause: seconds between that error and the next try.
        until: time of the next try, by `time.monotonic`.
    """

    refusal: QueueUnavailable
    pause: float
    until: float


_held: WeakKeyDictionary[Celery, dict[str, _Held]] = WeakKeyDictionary()
#: Whether the broker of an app is RabbitMQ.
_is_rabbitmq: WeakKeyDictionary[Celery, bool] = WeakKeyDictionary()


def refuse_held(queue: str, app: Celery, *, using: str) -> None:
    """Return if a queue may be asked for a message of this database.

    Raises:
        QueueUnavailable: it took no message some seconds ago.
    """
    found = _held.get(app, {}).get(queue)
    if found is not None and time.monotonic() < found.until:
        cause = found.refusal.cause
        celery_refusals.note(queue, cause, using=using, is_asked=False)
        raise QueueUnavailable(str(found.refusal), cause=cause)


def hold_if_blamed(error: Exception, queue: str, app: Celery, *, using: str) -> None:
    """Do what `blame_queue` does, and do not ask a blamed queue again for some seconds."""
    try:
        blame_queue(error, queue, app, using=using)
    except QueueUnavailable as refusal:
        known = _held.setdefault(app, {})
        before = known.get(queue)
        pause = min(before.pause * 2, _LONGEST_PAUSE) if before else _FIRST_PAUSE
        known[queue] = _Held(refusal, pause, time.monotonic() + pause)
        raise


def release(queue: str, app: Celery, *, using: str) -> None:
    """Note that a queue has taken a message of this database."""
    _held.get(app, {}).pop(queue, None)
    if may_refuse(app):
        celery_refusals.note_accepted(queue, using=using)


def may_refuse(app: Celery) -> bool:
    """Return whether the broker of an app may refuse the messages for one queue: RabbitMQ may."""
    if app not in _is_rabbitmq:
        connection: Any = own_connection(app)  # is not connected
        _is_rabbitmq[app] = connection.transport.driver_type == "amqp"
    return _is_rabbitmq[app]


def _ask_again(queue: str) -> None:
    """Ask a queue again that has taken a message of another process."""
    for known in list(_held.values()):
        known.pop(queue, None)


celery_refusals.when_accepted_elsewhere(_ask_again)


def blame_queue(error: Exception, queue: str, app: Celery, *, using: str) -> None:
    """Return if the whole broker may have failed, and not only the queue of a message.

    A queue that is blamed is reported, until it takes a message.

    Args:
        error: why the message was not sent.
        queue: its queue.
        app: the app whose broker it is.
        using: the database of the message.

    Raises:
        QueueUnavailable: RabbitMQ refused the message or its queue, or does not confirm it and
            takes others.
    """
    if not (cause := cause_of_refusal(error, app)):
        return
    celery_refusals.note(queue, cause, using=using)
    what = "has not confirmed" if cause == _UNCONFIRMED else "has refused"
    step = _next_step(queue)
    if cause == _DIFFERS:
        step = f"Compare them. It has answered: {error}"
    raise QueueUnavailable(
        f"RabbitMQ {what} a message for the queue {queue}{_MORE[cause]} {step}", cause=cause
    ) from error


def cause_of_refusal(error: Exception, app: Celery) -> str:
    """Return why a queue took no message; "" if the whole broker may have failed.

    Args:
        error: why the message was not sent.
        app: the app whose broker it is.
    """
    if _caused_by(error, MessageNacked):
        return _REFUSED
    if _caused_by(error, _CHANNEL_ERRORS):
        return _DIFFERS
    return _UNCONFIRMED if _caused_by(error, TimeoutError) and takes_messages(app) else ""


def _next_step(queue: str) -> str:
    # Short: a delivery's note has 300 characters.
    return f"Run `rabbitmq-queues quorum_status {queue}`, and start the nodes of its members."


def _caused_by(error: Exception, kind: type[Exception] | tuple[type[Exception], ...]) -> bool:
    """Return whether an error, or the one that kombu made its own error of, is of this kind."""
    return isinstance(error, kind) or isinstance(error.__cause__, kind)


def takes_messages(app: Celery) -> bool:
    """Return whether RabbitMQ takes messages now, two for no queue. It stores nothing.

    It confirms a message at once that it routes to no queue. While an alarm of memory or disk
    blocks all publishers, it confirms only the first message of a connection, which it blocks
    then. A user whom it refuses gets no answer meanwhile either. With another broker it is False.
    https://www.rabbitmq.com/docs/confirms#when-publishes-are-confirmed
    """
    try:
        # Not an idle connection: the node may have been restarted.
        probing = Producer(own_connection(app))
        if not is_rabbitmq(probing):
            return False
        try:
            nowhere = f"outbox.nowhere.{uuid4()}"
            for _ in range(2):
                probing.publish("", exchange="", routing_key=nowhere, retry=False)
        finally:
            abandon(probing)
    except Exception as error:
        if _caused_by(error, AccessRefused):  # by a user who may not publish to this exchange
            return True
        logger.debug("The broker takes no message: %s: %s", type(error).__name__, error)
        return False
    return True
