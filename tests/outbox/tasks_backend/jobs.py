"""Tasks of the tests, and their library: `django.tasks`, or the package django-tasks.

A module that imports this one is skipped where the project has neither.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any
from uuid import UUID

import django
import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone as timezone

from outbox import Discard, PermanentFailure, emit
from outbox.databases import is_open
from outbox.deliveries import subscribed
from tests.outbox.project.depot.events import PlaceAssigned

LIBRARY = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
LOGGER = LIBRARY
pytest.importorskip(LIBRARY, reason="Django 5.2 without the package django-tasks has no tasks")

from outbox.tasks_backend import api as api  # noqa: E402  it needs the library

task = import_module(LIBRARY).task

#: Calls of `note`, and what other tasks have seen.
seen: list[Any] = []


@task
def note(*args: Any, **kwargs: Any) -> None:
    seen.append((args, kwargs))


@task
def add(one: int, other: int) -> int:
    return one + other


@task
async def add_later(one: int, other: int) -> int:
    await asyncio.sleep(0)
    return one + other


@task(takes_context=True)
def see_context(context: Any, word: str) -> str:
    result = context.task_result
    seen.append((context.attempt, result.status, list(result.worker_ids), result.args))
    return f"{word} {result.id}"


@task
def fail_until(attempts: int) -> str:
    seen.append("attempt")
    if len(seen) < attempts:
        raise LookupError("the shelf of hanako.yamada@example.com is empty")
    return "found"


@task
def refuse() -> None:
    raise PermanentFailure("the parcel does not exist")


@task
def refuse_with(*args: str, **kwargs: str) -> None:
    raise PermanentFailure(f"no parcel of {args} and {kwargs}")


@task
def leave() -> None:
    raise SystemExit(3)


@task
def return_a_function() -> Any:
    seen.append("ran")
    return lambda: True


@task
def return_a_nul() -> str:
    return "\x00"


@task
def return_itself() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


@task
def create_group(name: str, *, fails: bool = False) -> str:
    Group.objects.create(name=name)
    if fails:
        raise LookupError(name)
    return name


@task
def is_in_transaction() -> bool:
    return is_open(connection)


@task
def assign_place(parcel_id: str) -> None:
    with transaction.atomic():
        emit(PlaceAssigned(parcel_id=UUID(parcel_id)))


def function() -> None:
    """Serve as the target of a path that is no task."""


class NotNeeded(Exception):
    """The rule of a queue discards it."""


@task
def not_needed() -> None:
    raise NotNeeded


RULES = {NotNeeded: Discard("the parcel has arrived")}
TaskResultStatus = api.TaskResultStatus


def leave_out_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the backend find a project without the app `outbox`."""
    name = "outbox.tasks_backend.backend.apps.is_installed"
    monkeypatch.setattr(name, lambda _name: False)


def forget_subscriptions() -> None:
    """Let the backend look for the subscriptions of its queues again."""
    subscribed.forget()
