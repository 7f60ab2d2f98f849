"""The current Celery app of a test: another app, or a changed setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import celery
import pytest
from celery import Celery

from tests.outbox.project.celery import app as default_app


def set_celery(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Change a setting, such as "task_acks_late".

    Its key has the prefix of the project's Django settings. Before Celery 5.7 they win over a key
    without it.
    """
    monkeypatch.setitem(celery.current_app.conf, f"CELERY_{name.upper()}", value)


@contextmanager
def current_app(url: str) -> Iterator[Celery]:
    """Make a new app with the broker of this URL the current one, and the project's afterwards."""
    made = Celery("test", broker=url, set_as_current=False)
    made.set_current()
    try:
        yield made
    finally:
        default_app.set_current()
        made.close()
