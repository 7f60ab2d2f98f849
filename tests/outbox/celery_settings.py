"""Settings of the Celery app, changed for a test."""

from __future__ import annotations

import pytest
from celery import current_app


def set_celery(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Change a setting, such as "task_acks_late".

    Its key has the prefix of the project's Django settings. Before Celery 5.7 they win over a key
    without it.
    """
    monkeypatch.setitem(current_app.conf, f"CELERY_{name.upper()}", value)
