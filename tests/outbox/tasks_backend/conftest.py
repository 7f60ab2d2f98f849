from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from outbox.deliveries.sync import sync_subscriptions
from outbox.testing import Outbox

Configure = Callable[..., Outbox]


@pytest.fixture
def configure(own_registry: None, no_nudge: None, settings: Settings) -> Configure:
    """Return a function that sets TASKS and migrates: its arguments are those of the backend."""
    from tests.outbox.tasks_backend import jobs

    jobs.seen.clear()

    def set_tasks(*queues: str, **options: Any) -> Outbox:
        jobs.forget_subscriptions()
        settings.TASKS = {
            "default": {
                "BACKEND": "outbox.tasks_backend.OutboxBackend",
                "QUEUES": list(queues) or ["default"],
                "OPTIONS": options,
            }
        }
        sync_subscriptions()
        return Outbox()

    return set_tasks
