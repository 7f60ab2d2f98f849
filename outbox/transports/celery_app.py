"""The project's Celery app, for rooms that also work without Celery.

This module imports Celery only inside its functions. Only they, `outbox/celery.py`,
`outbox/tasks.py` and the modules `celery_*.py` beside this one import Celery or kombu.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celery import Celery

#: The attribute of a Celery app in which `outbox.celery.install` was called.
MARK = "outbox_is_installed"


def is_importable() -> bool:
    """Return whether Celery is installed in this environment. It is not imported."""
    return find_spec("celery") is not None


def find_app() -> Celery | None:
    """Return Celery's current app, or None if Celery is not installed."""
    if not is_importable():
        return None
    from celery import current_app

    return current_app


def require_celery(purpose: str) -> None:
    """Raise `ImproperlyConfigured` if Celery is not installed.

    Args:
        purpose: what needs it, such as "The subcommand relay".
    """
    if not is_importable():
        raise ImproperlyConfigured(f'{purpose} needs celery (extra "celery").')


def has_outbox(app: Celery) -> bool:
    """Return whether `outbox.celery.install` was called with this app."""
    return bool(getattr(app, MARK, False))


def senders() -> Iterator[tuple[type[Any], str]]:
    """Yield the classes and methods that send tasks; none without Celery."""
    if is_importable():
        from celery import Celery
        from celery.app.task import Task

        yield Task, "apply_async"
        yield Celery, "send_task"


def beat_schedule() -> Mapping[str, Any]:
    """Return the entries of beat in the settings, by name. Each has a schedule of Celery's."""
    app = find_app()
    if app is None:
        return {}
    from celery.schedules import maybe_schedule

    entries = app.conf.beat_schedule
    return {
        name: {**entry, "schedule": maybe_schedule(entry["schedule"])}
        for name, entry in entries.items()
    }
