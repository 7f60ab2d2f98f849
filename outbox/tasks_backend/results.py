"""The result of a task: derived from its event, its delivery and the attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Prefetch
from django.utils.module_loading import import_string

from outbox import databases
from outbox.models import Attempt, DelayedEvent, Delivery, Event

from .api import (
    InvalidTask,
    InvalidTaskBackend,
    Task,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from .configuration import handler_name
from .errors import WorkerDied
from .events import TaskEnqueued

State = Delivery.State
Outcome = Attempt.Outcome

#: The worker did not fail, or the failure of a lost run is recorded as a death already.
_NO_ERRORS = (Outcome.REPLAYED, Outcome.UNSETTLED, Outcome.LEASE_LOST)
_DIED = f"{WorkerDied.__module__}.{WorkerDied.__qualname__}"


def stored_result(result_id: str) -> TaskResult[Any, Any]:
    """Return the result of a stored task, in whichever database of the outbox it is.

    Raises:
        TaskResultDoesNotExist: no task has this id, or it was removed with its event.
        InvalidTask: this code has no such task any more, or TASKS has no such backend.
    """
    stored, using = _stored(result_id)
    fact = TaskEnqueued.model_validate(stored.payload)
    name = handler_name(fact.backend, fact.queue)
    found = Delivery.objects.using(using).filter(event__id=stored.id, subscription__handler=name)
    # A router may send a prefetch without an alias to another database.
    failures = Prefetch("failures", Attempt.objects.using(using))
    return result_of(stored.id, fact, found.prefetch_related(failures).first())


def result_of(
    event_id: UUID, fact: TaskEnqueued, delivery: Delivery | None = None
) -> TaskResult[Any, Any]:
    """Return the result of a task.

    Args:
        event_id: the id of its event.
        fact: its event.
        delivery: its delivery, with `failures`. None: the event waits for fan-out or its time.
    """
    failures = list(delivery.failures.all()) if delivery else []
    starts = _starts(delivery, failures)
    result: TaskResult[Any, Any] = TaskResult(
        task=task_of(fact),
        id=str(event_id),
        status=_status(delivery),
        enqueued_at=fact.enqueued_at,
        started_at=starts[0][0] if starts else None,
        finished_at=_finished_at(delivery, failures),
        last_attempted_at=starts[-1][0] if starts else None,
        args=fact.args,
        kwargs=fact.kwargs,
        backend=fact.backend,
        errors=[_error(one) for one in failures if one.outcome not in _NO_ERRORS],
        worker_ids=[worker for _at, worker in starts],
    )
    object.__setattr__(result, "_return_value", delivery.returned if delivery else None)
    return result


def task_of(fact: TaskEnqueued) -> Task[Any, Any]:
    """Return the task of this code, with the options that it was enqueued with.

    Raises:
        InvalidTask: this code has no such task, or TASKS no such backend or queue.
    """
    try:
        found = import_string(fact.task)
    except ImportError as error:
        problem = f"cannot be imported ({error})"
        raise InvalidTask(_missing(fact, problem)) from error
    if not isinstance(found, Task):
        raise InvalidTask(_missing(fact, f"is a {type(found).__name__} and not a task"))
    return _as_enqueued(found, fact)


def _as_enqueued(task: Task[Any, Any], fact: TaskEnqueued) -> Task[Any, Any]:
    try:
        return task.using(
            priority=fact.priority,
            queue_name=fact.queue,
            run_after=fact.run_after,
            backend=fact.backend,
        )
    except InvalidTaskBackend as error:
        raise InvalidTask(
            f"{fact.task} was enqueued to the backend {fact.backend!r}, which TASKS cannot create "
            f"({error}). Keep a backend of this name until the results of its tasks are removed."
        ) from error


def _missing(fact: TaskEnqueued, problem: str) -> str:
    return (
        f"{fact.task} {problem}. Deploy a release that has this task, then retry its delivery to "
        f"{handler_name(fact.backend, fact.queue)}; or discard it."
    )


def _stored(result_id: str) -> tuple[Event | DelayedEvent, str]:
    """Return the event of a task, and the alias of its database."""
    try:
        event_id = UUID(result_id)
    except (ValueError, AttributeError, TypeError):
        raise TaskResultDoesNotExist(result_id) from None
    # A view does not know the database of the transaction that stored it.
    for using in dict.fromkeys((databases.alias(), *databases.aliases())):
        row = _stored_in(using, event_id)
        if row is not None:
            return row, using
    raise TaskResultDoesNotExist(result_id)


def _stored_in(using: str, event_id: UUID) -> Event | DelayedEvent | None:
    # The delayed event first: the relay moves it meanwhile, and never back.
    models: tuple[type[DelayedEvent | Event], ...] = (DelayedEvent, Event)
    for model in models:
        rows = model._default_manager.using(using).filter(id=event_id)
        row = rows.filter(name__startswith=f"{TaskEnqueued.event_name}.").first()
        if row is not None:
            return row
    return None


def _status(delivery: Delivery | None) -> TaskResultStatus:
    if delivery is None:
        return TaskResultStatus.READY
    if delivery.state == State.DONE:
        return TaskResultStatus.SUCCESSFUL
    if delivery.state in (State.DEAD, State.DISCARDED):
        return TaskResultStatus.FAILED
    return TaskResultStatus.RUNNING if delivery.is_started else TaskResultStatus.READY


def _starts(delivery: Delivery | None, failures: Sequence[Attempt]) -> list[tuple[datetime, str]]:
    """Return time and worker of each start. The latest one may have no attempt's row."""
    starts = [(one.started_at, one.worker) for one in failures if one.outcome != Outcome.LEASE_LOST]
    if delivery and delivery.started_at and (delivery.started_at, delivery.worker) not in starts:
        starts.append((delivery.started_at, delivery.worker))
    return starts


def _finished_at(delivery: Delivery | None, failures: Sequence[Attempt]) -> datetime | None:
    if delivery is None or delivery.state not in (State.DEAD, *Delivery.SETTLED):
        return None
    return delivery.settled_at or max((one.ended_at for one in failures), default=None)


def _error(attempt: Attempt) -> TaskError:
    return TaskError(
        exception_class_path=attempt.exception_path or _DIED, traceback=attempt.traceback
    )
