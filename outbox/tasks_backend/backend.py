"""OutboxBackend: the backend of Django's tasks that stores them as events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from outbox import clock, databases
from outbox.deliveries.subscribed import has_subscription
from outbox.emission import emit

from .api import BaseTaskBackend, InvalidTask, Task, TaskResult, normalize_json, task_enqueued
from .configuration import TaskQueue, queues_of
from .events import TaskEnqueued


class OutboxBackend(BaseTaskBackend):
    """Stores each task in the caller's transaction, and lets the outbox's workers run it.

    The task exists if and only if the transaction commits. Without a transaction it is stored at
    once. Delivery is at least once: a task whose worker dies runs again. Set the options of
    `@subscribe` in OPTIONS, for all queues or in `OPTIONS["queues"]` for one::

        TASKS = {
            "default": {
                "BACKEND": "outbox.tasks_backend.OutboxBackend",
                "QUEUES": ["default", "mail"],
                "OPTIONS": {"attempts": 10, "queues": {"mail": {"time_limit": 30}}},
            }
        }
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._queues = {one.name: one for one in queues_of(alias, params)}

    def enqueue(
        self, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult[Any, Any]:
        """Store a task. Its id is the id of its event (UUIDv7).

        Raises:
            InvalidTask: the task, its queue or its `run_after` is invalid.
            TypeError: an argument is no JSON value.
            UnstorableValue: an argument cannot be stored in every database.
            ImproperlyConfigured: its queue has no subscription: `migrate` has not run.
        """
        from .results import result_of, task_of  # they import models

        self.validate_task(task)
        using = databases.for_emit()
        queue = self._queues[task.queue_name]
        now = clock.now(using=using)
        event = TaskEnqueued(
            task=task.module_path,
            args=_as_json(task, "args", list(args)),
            kwargs=_as_json(task, "kwargs", dict(kwargs)),
            backend=self.alias,
            queue=queue.name,
            priority=task.priority,
            run_after=task.run_after,
            enqueued_at=now,
        )
        task_of(event)  # a worker imports it by its path
        delay = max(task.run_after - now, timedelta(0)) if task.run_after else None
        is_open = databases.is_open(connections[using])
        with nullcontext() if is_open else transaction.atomic(using=using):
            _refuse_without_subscription(queue, using=using)
            result = result_of(emit(event, delay=delay), event)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any, Any]:
        """Return the result of a task. Errors have masked texts, as in the admin.

        Raises:
            TaskResultDoesNotExist: no task has this id, or it was removed by retention.
            InvalidTask: this code has no such task any more, or TASKS has no such backend.
            django.db.Error: a database of the outbox that may have it cannot be read.
        """
        from .results import stored_result  # it imports models

        return stored_result(result_id)

    def check(self, **_kwargs: Any) -> list[CheckMessage]:
        """Report a project without the app `outbox`."""
        if apps.is_installed("outbox"):
            return []
        return [
            Error(
                f'TASKS["{self.alias}"] names the outbox, and INSTALLED_APPS does not.',
                hint='Add "outbox" to INSTALLED_APPS, and run migrate.',
                obj="settings",
                id="outbox.E030",
            )
        ]

    def validate_task(self, task: Task[Any, Any]) -> None:
        """Refuse a task that the backend cannot run. The message names the task.

        Raises:
            InvalidTask: it is no function of a module, its queue is unknown, or `run_after` is
                naive.
        """
        try:
            super().validate_task(task)
        except InvalidTask as error:
            name = getattr(task.func, "__qualname__", repr(task.func))
            step = ""
            if task.queue_name not in self.queues:
                queues = ", ".join(sorted(self.queues))
                step = f' TASKS["{self.alias}"]["QUEUES"] has {queues}.'
            raise InvalidTask(f"{name}: {error}{step}") from error


def _as_json(task: Task[Any, Any], what: str, given: Any) -> Any:
    try:
        return normalize_json(given)
    except RecursionError as error:
        raise TypeError(
            f"{task.module_path}: {what} is nested too deeply. Pass the id of a row."
        ) from error
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{task.module_path}: {what} contains a value that is no JSON value. {error}. Pass the "
            "id of a row, or text."
        ) from error


def _refuse_without_subscription(queue: TaskQueue, *, using: str) -> None:
    """Refuse a queue without a subscription: the relay would fan its tasks out to no handler."""
    if not has_subscription(queue.handler, queue.event, using=using):
        raise ImproperlyConfigured(
            f'The queue {queue.name!r} of TASKS["{queue.backend}"] has no subscription, so no '
            "worker would run its tasks. Run `manage.py migrate` with this release."
        )
