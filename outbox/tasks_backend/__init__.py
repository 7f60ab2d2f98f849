"""The backend of Django's tasks: `enqueue()` stores a task in the caller's transaction.

TASKS = {"default": {"BACKEND": "outbox.tasks_backend.OutboxBackend", "QUEUES": ["default"]}}

It works with `django.tasks` of Django 6, and with the package `django-tasks` on Django 5.2. Neither
is imported until a project uses the backend. See docs/how-to/run-django-tasks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import WorkerDied

if TYPE_CHECKING:
    from .backend import OutboxBackend

__all__ = ["OutboxBackend", "WorkerDied"]


def __getattr__(name: str) -> Any:
    """Import the backend at its first use: it needs `django.tasks` or `django_tasks`."""
    if name == "OutboxBackend":
        from .backend import OutboxBackend

        return OutboxBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
