"""The event of a call of a Celery task with the base `OutboxTask`. This module needs no Celery."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from outbox.events import DomainEvent
from outbox.privacy.marks import Sensitive


class CeleryTaskCalled(DomainEvent, key="task_id"):
    """A Celery task was called. It is sent to the broker after the commit.

    Attributes:
        task: name of the task.
        task_id: id of the task's message, chosen at the call. Each repeated message has the same.
        options: options of the call that contain no data of the project: queue, priority, expires.
        embedded: all other options: headers, signatures of `link`, `link_error` and `chain`.
    """

    task: str
    task_id: str
    args: Sensitive[list[Any]] = []
    kwargs: Sensitive[dict[str, Any]] = {}
    options: dict[str, Any] = {}
    embedded: Sensitive[dict[str, Any]] = {}

    def in_words(self) -> str:
        """Return the name of the task, without its arguments."""
        return _("Celery task %(task)s called") % {"task": self.task}
