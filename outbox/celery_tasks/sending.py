"""The handler that sends stored calls of Celery tasks to the broker.

A delivery is done when the broker has taken the message: RabbitMQ has confirmed it, Redis and SQS
have answered. From then on the task is Celery's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from celery import Celery
from celery.app import app_or_default
from celery.result import denied_join_result
from kombu.exceptions import OperationalError

from outbox import databases, subscriptions, tenants, tracing
from outbox.events import EventRecord
from outbox.policy import Breaker
from outbox.receipt import BulkDelivery
from outbox.transports import celery_refusals
from outbox.transports.base import QUEUE, QueueUnavailable
from outbox.transports.celery_producers import producer
from outbox.transports.celery_queues import blame_queue, may_refuse
from outbox.transports.celery_settings import own_connection

from .context import headers_of
from .events import CeleryTaskCalled

#: Pinned name of the handler.
HANDLER = "outbox.send_tasks"

#: Most tasks of one call.
_BATCH = 100


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
    sending = _Sending(app_or_default())
    with denied_join_result():  # otherwise the process would subscribe to the results
        for one in deliveries:
            try:
                sending.send(one.event)
            except TaskBrokerUnavailable:
                raise
            except Exception as error:
                one.failed(error)
            else:
                one.done()


class _Sending:
    """The messages of one call of the handler."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._using = databases.alias()
        self._connection = own_connection(app)  # is never connected
        self._unconfirmed: dict[str, str] = {}

    def send(self, event: EventRecord) -> None:
        """Send one task.

        Raises:
            TaskBrokerUnavailable: the connection failed.
            QueueUnavailable: RabbitMQ takes no message for the task's queue. Each later message
                for it fails at once, so that the other queues do not wait again.
            Exception: the broker refuses the message or its queue.
        """
        if self._unconfirmed:
            self._refuse_unconfirmed(_queue_of(self._app, event))
        try:
            _send(self._app, event)
        except Exception as error:
            if not _is_outage(error, self._connection):
                raise
            self._blame_queue(error, _queue_of(self._app, event))
            raise TaskBrokerUnavailable(
                f"The broker takes no task ({type(error).__name__}: "
                f"{str(error) or 'no answer in time'}). Check that it runs, its address, its "
                "permissions and its alarms."
            ) from error
        # The name of a queue costs time.
        if may_refuse(self._app) and celery_refusals.is_any_refused(self._using):
            celery_refusals.note_accepted(_queue_of(self._app, event), using=self._using)

    def _refuse_unconfirmed(self, queue: str) -> None:
        if queue in self._unconfirmed:
            raise QueueUnavailable(self._unconfirmed[queue])

    def _blame_queue(self, error: Exception, queue: str) -> None:
        try:
            blame_queue(error, queue, self._app, using=self._using)
        except QueueUnavailable as refusal:
            self._unconfirmed[queue] = str(refusal)
            raise


def _send(app: Celery, event: EventRecord) -> None:
    stored = event.payload
    with producer(app) as taken, tracing.received(event.traceparent, event.tracestate):
        app.send_task(
            stored["task"],
            stored["args"],
            stored["kwargs"],
            task_id=stored["task_id"],
            task_type=app.tasks.get(stored["task"]),
            producer=taken,
            retry=False,  # the relay retries from the database
            add_to_parent=False,
            **_options(event),
        )


def _queue_of(app: Celery, event: EventRecord) -> str:
    """Return the name of the queue to which Celery routes a stored call, or its routing key."""
    stored = event.payload
    known: Any = app.tasks.get(stored["task"])
    options = dict(_options(event))
    name = options.pop("route_name", None) or stored["task"]
    found = app.amqp.router.route(options, name, stored["args"], stored["kwargs"], known)
    queue = found.get("queue")
    return str(found.get("routing_key", "")) if queue is None else str(queue.name)


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
