"""The handler of each queue of tasks, by the setting TASKS.

It imports neither `django.tasks` nor `django_tasks`, unless TASKS names the outbox's backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from outbox import subscriptions
from outbox.receipt import Receipt
from outbox.subscriptions import subscribe
from outbox.worker import outcome

from .configuration import TaskQueue, queues_of

_BACKEND = "outbox.tasks_backend.OutboxBackend"


def register_tasks() -> None:
    """Subscribe a handler, named "tasks.<alias>.<queue>", for each queue of the setting TASKS.

    Raises:
        ImproperlyConfigured: a backend's settings are invalid.
    """
    subscriptions.registry[:] = [
        one for one in subscriptions.registry if one.function.__module__ != __name__
    ]
    for alias, params in _configured():
        from . import finishing  # it needs `django.tasks`

        outcome.ended.connect(finishing.finish)
        for queue in queues_of(alias, params):
            _register(alias, queue)


def _register(alias: str, queue: TaskQueue) -> None:
    function = _atomic(queue) if queue.is_atomic else _with_receipt(queue)
    try:
        subscribe(queue.event, name=queue.handler, **queue.options)(function)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f'TASKS["{alias}"]["OPTIONS"]: {error}') from error


def _configured() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the alias and the settings of each backend of TASKS that is the outbox's."""
    # Django 6 has a default, so the setting alone shows no use.
    if not settings.is_overridden("TASKS"):
        return
    for alias, params in settings.TASKS.items():
        if _is_outbox(params.get("BACKEND", "")):
            yield alias, params


def _is_outbox(path: str) -> bool:
    if path == _BACKEND:
        return True
    try:
        found = import_string(path)
    except ImportError:  # Django's own check reports it
        return False
    return isinstance(found, type) and any(
        f"{one.__module__}.{one.__name__}" == "outbox.tasks_backend.backend.OutboxBackend"
        for one in found.__mro__
    )


def _atomic(queue: TaskQueue) -> Callable[..., None]:
    def run_task(task: str, args: list[Any], kwargs: dict[str, Any], event_id: UUID) -> None:
        from . import running  # it needs `django.tasks`

        running.store(running.run(queue, event_id, task, args, kwargs))

    return run_task


def _with_receipt(queue: TaskQueue) -> Callable[..., None]:
    def run_task(
        task: str, args: list[Any], kwargs: dict[str, Any], event_id: UUID, receipt: Receipt
    ) -> None:
        from . import running  # it needs `django.tasks`

        ran = running.run(queue, event_id, task, args, kwargs)
        with receipt:
            running.store(ran)

    return run_task


@receiver(setting_changed)
def register_again(*, setting: str, **_kwargs: Any) -> None:
    """Register the queues of a test's TASKS."""
    if setting == "TASKS":
        register_tasks()
