"""The pools of Celery that may run the outbox's queues."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox.transports import celery_worker
from outbox.transports.base import QUEUE
from outbox.transports.celery_worker import PoolStep


def made_for(pool: type, *, queues: list[str]) -> PoolStep:
    consumed = SimpleNamespace(consume_from=queues)
    app = SimpleNamespace(amqp=SimpleNamespace(queues=consumed))
    return PoolStep(SimpleNamespace(pool_cls=pool, app=app))


def pool_of(kind: str) -> type:
    """A pool of Celery, whose module cannot be imported without its library."""
    return type("TaskPool", (), {"__module__": f"celery.concurrency.{kind}"})


class TestAGreenPool:
    @pytest.mark.parametrize("kind", celery_worker.GREEN_POOLS)
    @pytest.mark.parametrize("queue", [QUEUE, "depot"])
    def test_is_refused_for_a_queue_of_the_outbox(self, kind: str, queue: str):
        """Failed: handlers ran there, and their time limits had no effect."""
        with pytest.raises(ImproperlyConfigured, match=f"--pool {kind} cannot consume {queue}:"):
            made_for(pool_of(kind), queues=["reports", queue])

    @pytest.mark.parametrize("kind", celery_worker.GREEN_POOLS)
    def test_is_accepted_for_other_queues(self, kind: str):
        made_for(pool_of(kind), queues=["reports"])


@pytest.mark.parametrize("kind", ["prefork", "thread", "solo"])
def test_other_pools_are_accepted(kind: str):
    made_for(pool_of(kind), queues=[QUEUE])


def test_the_bootstep_is_installed(settings: Any):
    from tests.outbox.project.celery import app

    assert PoolStep in app.steps["worker"]
