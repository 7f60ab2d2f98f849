"""Exceptions of tasks: of an attempt, and those that results and logs name."""

from __future__ import annotations

from datetime import timedelta

from outbox.policy import NotCalled


class WorkerDied(Exception):
    """The worker died while it ran the task, so no exception was recorded.

    `TaskResult.errors` names it. Nothing raises it.
    """


class TaskExited(Exception):
    """The task raised SystemExit or CancelledError, which would end the worker."""


class TaskMissing(NotCalled):
    """This code has no such task: another release may have it. It uses up no attempt."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=timedelta(minutes=1))


class TaskFailed(Exception):
    """The last failure of a task, with its masked text, for those who log the signal."""
