"""The handler that sends stored calls of Celery tasks to the broker.

A delivery is done when the broker has taken the message: RabbitMQ has confirmed it, Redis and SQS
have answered. From then on the task is Celery's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from celery import Celery, current_app
from celery.result import denied_join_result
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool, producers

from outbox import subscriptions, tenants, tracing
from outbox.events import EventRecord
from outbox.policy import Breaker
from outbox.receipt import BulkDelivery
from outbox.transports.base import QUEUE
from outbox.transports.celery_settings import own_connection

from .context import headers_of
from .events import CeleryTaskCalled

#: Pinned name of the handler.
HANDLER = "outbox.send_tasks"

#: Most tasks of one call, and most seconds to wait for a connection of this process.
_BATCH = 100
_WAIT_SECONDS = 5.0


class TaskBrokerUnavailable(Exception):
    """The broker takes no task. The stored calls stay owed, and are sent later."""


_BREAKER = Breaker(on=(TaskBrokerUnavailable,), failures=5, wait=5, longest=300)


def subscribe_sender() -> None:
    """Subscribe the handler. It runs in the workers of the relay's queue."""
    if subscriptions.find(HANDLER) is None:
        subscriptions.subscribe(
            CeleryTaskCalled.event_name,
            name=HANDLER,
            queue=QUEUE,
            bulk=True,
            batch=_BATCH,
            breaker=_BREAKER,
        )(send_tasks)


@tenants.of_all_tenants
def send_tasks(deliveries: Sequence[BulkDelivery]) -> None:
    """Send a task for each delivery. A queue that is refused fails only its own deliveries.

    Raises:
        TaskBrokerUnavailable: the connection failed. The deliveries that are not settled were not
            sent.
    """
    app = current_app
    pool = producers[own_connection(app)]
    with denied_join_result():  # otherwise the process would subscribe to the results
        for one in deliveries:
            try:
                _send(app, pool, one.event)
            except Exception as error:
                if _is_outage(error, pool.connections.connection):
                    raise TaskBrokerUnavailable(
                        f"The broker takes no task ({type(error).__name__}: {error}). Check that "
                        "it runs, its address and its permissions."
                    ) from error
                one.failed(error)
            else:
                one.done()


def _send(app: Celery, pool: ProducerPool, event: EventRecord) -> None:
    stored = event.payload
    # A wait without a limit could outlast the lease.
    with (
        pool.acquire(block=True, timeout=_WAIT_SECONDS) as producer,
        tracing.received(event.traceparent, event.tracestate),
    ):
        app.send_task(
            stored["task"],
            stored["args"],
            stored["kwargs"],
            task_id=stored["task_id"],
            task_type=app.tasks.get(stored["task"]),
            producer=producer,
            retry=False,  # the relay retries from the database
            add_to_parent=False,
            **_options(event),
        )


def _options(event: EventRecord) -> Mapping[str, Any]:
    stored = event.payload
    options = {"root_id": stored["task_id"], **stored["options"], **stored["embedded"]}
    if "expires" in options:
        options["expires"] = datetime.fromisoformat(options["expires"])
    # A caller that passes on the headers of its own task would break the chain of causes.
    given = {
        name: value
        for name, value in options.get("headers", {}).items()
        if not name.startswith("outbox_")
    }
    return {**options, "serializer": "json", "headers": {**headers_of(event), **given}}


def _is_outage(error: Exception, connection: Any) -> bool:
    """Return whether the connection failed, and not only the message or its queue.

    Kombu raises its own `OperationalError` for both, from the error of the broker's client.
    """
    cause = error.__cause__ if isinstance(error, OperationalError) else error
    if isinstance(cause, connection.channel_errors):
        return False
    lost = (OSError, OperationalError, *connection.connection_errors)
    return isinstance(error, lost)
