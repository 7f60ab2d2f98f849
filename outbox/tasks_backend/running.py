"""Run a task in its handler, and store its return value with the receipt."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Prefetch

from outbox import databases
from outbox.models import Attempt, Delivery
from outbox.receipt import PermanentFailure
from outbox.storable import refuse_unstorable

from .api import (
    InvalidTask,
    TaskContext,
    TaskResult,
    normalize_json,
    task_backends,
    task_started,
)
from .configuration import TaskQueue
from .errors import TaskExited, TaskMissing
from .events import TaskEnqueued
from .results import result_of

#: A deploy may take so many minutes. Meanwhile, workers of the release before lack a new task.
_DEPLOY_ATTEMPTS = 10


@dataclass(frozen=True)
class Returned:
    """The return value of a task, and its delivery."""

    delivery: Delivery
    value: Any


def run(
    queue: TaskQueue, event_id: UUID, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Returned:
    """Call a task with the arguments that it was enqueued with.

    Args:
        queue: its queue.
        event_id: the id of its event.
        path: the dotted path of its function.
        args: its positional arguments.
        kwargs: its named arguments.

    Raises:
        TaskExited: the task raised SystemExit or CancelledError.
        TaskMissing: this code has no such task. It is tried again for ten minutes.
        PermanentFailure: this code still has no such task, or its return value is no JSON.
    """
    delivery = _delivery(queue, event_id)
    result = _result(delivery)
    backend = task_backends[queue.backend]
    task_started.send(sender=type(backend), task_result=result)
    task = result.task
    given = [TaskContext(task_result=result), *args] if task.takes_context else args
    try:
        value = task.call(*given, **kwargs)
    except (SystemExit, CancelledError) as error:
        raise TaskExited(f"{path} raised {type(error).__name__}: {error}") from error
    return Returned(delivery, _storable(path, value))


def store(returned: Returned) -> None:
    """Store a return value, in the transaction of the receipt."""
    if returned.value is None and returned.delivery.returned is None:
        return
    row = returned.delivery
    mine = Delivery.objects.using(databases.alias()).filter(pk=row.pk)
    mine.update(returned=returned.value)


def _delivery(queue: TaskQueue, event_id: UUID) -> Delivery:
    using = databases.alias()
    rows = Delivery.objects.using(using).select_related("event")
    # A router may send a prefetch without an alias to a replica that lags behind.
    failures = Prefetch("failures", Attempt.objects.using(using))
    return rows.prefetch_related(failures).get(
        event__id=event_id, subscription__handler=queue.handler
    )


def _result(delivery: Delivery) -> TaskResult[Any, Any]:
    fact = TaskEnqueued.model_validate(delivery.event.payload)
    try:
        return result_of(delivery.event.id, fact, delivery)
    except InvalidTask as error:
        missed = sum(one.exception == TaskMissing.__name__ for one in delivery.failures.all())
        kind = TaskMissing if missed < _DEPLOY_ATTEMPTS - 1 else PermanentFailure
        raise kind(str(error)) from error


def _storable(path: str, value: Any) -> Any:
    """Return a return value as JSON. Its task has run, so another attempt would run it again."""
    try:
        stored = normalize_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentFailure(
            f"{path} returned a {type(value).__name__} that is no JSON value ({error}). It has "
            "run. Let it return text, numbers, lists and objects, or None."
        ) from error
    refuse_unstorable({"name": f"The return value of {path}", "value": stored})
    return stored
