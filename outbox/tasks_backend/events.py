"""The event that a task is stored as."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from pydantic import Field

from outbox.events import DomainEvent
from outbox.privacy.marks import Sensitive

#: Width of the column of an event's key.
_LONGEST_KEY = 100


class TaskEnqueued(DomainEvent, key="task"):
    """A task was enqueued. The name of a stored one ends with its backend and its queue."""

    task: str = Field(description="Dotted path of the task's function.")
    args: Sensitive[list[Any]]
    kwargs: Sensitive[dict[str, Any]]
    backend: str = Field(description="Alias of the backend in TASKS.")
    queue: str
    priority: int = Field(default=0, description="-100 to 100. Higher ones run first.")
    run_after: datetime | None = None
    enqueued_at: datetime

    def stored_name(self) -> str:
        """Return the name of its queue's events, to which only the queue's handler subscribes."""
        return event_name(self.backend, self.queue)

    @property
    def key(self) -> str:
        """The task's path, or the end of a long one."""
        return self.task[-_LONGEST_KEY:]

    def in_words(self) -> str:
        """Name the task."""
        return _("Task %(task)s enqueued") % {"task": self.task}


def event_name(backend: str, queue: str) -> str:
    """Return the name of the events of a queue."""
    return f"{TaskEnqueued.event_name}.{backend}.{queue}"
