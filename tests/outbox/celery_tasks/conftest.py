"""A Celery app with tasks that store their calls, and a broker in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from outbox.celery import OutboxTask
from outbox.celery_tasks.sending import subscribe_sender
from outbox.deliveries import subscribed
from outbox.deliveries.sync import sync_subscriptions
from outbox.testing import Outbox
from tests.outbox.celery_settings import current_app


class Broker:
    """The messages of a broker in memory."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def received(self, queue: str = "celery") -> list[Any]:
        """Read and remove all messages of a queue."""
        with self.app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
            return [waiting.get(block=False) for _ in range(waiting.qsize())]


@pytest.fixture
def celery() -> Iterator[Celery]:
    """The current app of the test, with a broker of its own."""
    with current_app(f"memory://{uuid4()}") as made:
        made.conf.task_default_queue = f"celery-{uuid4()}"
        yield made


@pytest.fixture
def broker(celery: Celery) -> Broker:
    return Broker(celery)


@pytest.fixture
def sender(own_registry: None, transactional_db: None) -> Outbox:
    """An outbox with the handler that sends stored calls, and no other."""
    subscribe_sender()
    subscribed.forget()
    sync_subscriptions()
    return Outbox()


@pytest.fixture
def label(celery: Celery, sender: Outbox) -> Any:
    @celery.task(base=OutboxTask, shared=False, name="parcels.send_label")
    def send_label(parcel_id: Any, copies: Any = 1) -> None: ...

    return send_label
