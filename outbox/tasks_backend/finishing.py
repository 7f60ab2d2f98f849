"""Send `task_finished` once the end of a task is stored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db.models import Prefetch

from outbox import databases, tenants
from outbox.models import Attempt, Delivery
from outbox.privacy.masking import traceback_without_messages
from outbox.subscriptions import Handler
from outbox.worker.calls import SessionWatch
from outbox.worker.outcome import Result

from .api import TaskResult, task_backends, task_finished
from .errors import TaskFailed
from .events import TaskEnqueued
from .results import result_of

logger = logging.getLogger("outbox.delivery")

_FINISHED = (Delivery.State.DONE, Delivery.State.DEAD, Delivery.State.DISCARDED)


def finish(*, handler: Handler, results: Sequence[Result], **_kwargs: Any) -> None:
    """Send `task_finished` for each task of a message that has succeeded or failed for good.

    Receivers run after the transaction of the receipt or of the failure. A task whose last worker
    died sends no signal: a relay records that, which runs no task's code.
    """
    if handler.function.__module__ != "outbox.tasks_backend.registration":
        return
    ended = [one.delivery_id for one in results if one.outcome in _FINISHED]
    using = databases.alias()
    rows = Delivery.objects.using(using).filter(pk__in=ended, state__in=_FINISHED)
    # A router may send a prefetch without an alias to a replica that lags behind.
    failures = Prefetch("failures", Attempt.objects.using(using))
    for delivery in rows.select_related("event").prefetch_related(failures):
        try:
            _send(delivery)
        except Exception as error:  # `RESTORE` of this tenant: the others get their signals
            why = "; ".join([type(error).__name__, *tenants.notes_of(error)])
            trace = traceback_without_messages(error)
            logger.error(
                "task_finished is not sent of delivery %d: %s\n%s", delivery.pk, why, trace
            )


def _send(delivery: Delivery) -> None:
    fact = TaskEnqueued.model_validate(delivery.event.payload)
    result: TaskResult[Any, Any] = result_of(delivery.event.id, fact, delivery)
    tenant = delivery.event.tenant if tenants.is_on() else None
    watch = SessionWatch()
    try:
        with watch, tenants.restored(tenant):  # a receiver may enqueue the next task
            _send_result(delivery, result, type(task_backends[fact.backend]))
    finally:
        watch.drop_changed()


def _send_result(delivery: Delivery, result: TaskResult[Any, Any], backend: type[Any]) -> None:
    send = partial(task_finished.send_robust, backend)
    if delivery.state == Delivery.State.DONE:
        send(task_result=result)
        return
    # Receivers log the exception that is handled, as those of Django and of the package do.
    try:
        raise TaskFailed(delivery.note)
    except TaskFailed:
        send(task_result=result)
