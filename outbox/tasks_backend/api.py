"""The names of Django's tasks that the backend uses: of Django 6, or of the package django-tasks.

The package is for Django 5.2. With Django 6, Django's own module is used even if the package is
installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import django
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskError
    from django.tasks.exceptions import InvalidTask, InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    LIBRARY = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    try:
        _base = import_module(f"{LIBRARY}.base")
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            "TASKS names outbox.tasks_backend.OutboxBackend, which needs Django 6.0 or the package "
            f"django-tasks, and Django {django.get_version()} is installed without it. Install "
            "it: pip install 'django-transactional-outbox[tasks]'."
        ) from error
    _exceptions = import_module(f"{LIBRARY}.exceptions")
    _signals = import_module(f"{LIBRARY}.signals")
    _json = import_module("django.utils.json" if django.VERSION >= (6, 0) else "django_tasks.utils")

    task_backends = import_module(LIBRARY).task_backends
    BaseTaskBackend = import_module(f"{LIBRARY}.backends.base").BaseTaskBackend
    Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
    TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus
    InvalidTask = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError
    InvalidTaskBackend = (
        getattr(_exceptions, "InvalidTaskBackend", None) or _exceptions.InvalidTaskBackendError
    )
    TaskResultDoesNotExist = _exceptions.TaskResultDoesNotExist
    task_enqueued, task_started = _signals.task_enqueued, _signals.task_started
    task_finished = _signals.task_finished
    normalize_json = _json.normalize_json

__all__ = [
    "BaseTaskBackend",
    "InvalidTask",
    "InvalidTaskBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
