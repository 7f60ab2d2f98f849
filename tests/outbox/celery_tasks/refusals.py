"""Queues of RabbitMQ that refuse messages, and the reports of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import MessageNacked
from kombu.exceptions import OperationalError

from outbox.celery_tasks import sending
from outbox.models import Heartbeat
from outbox.monitor.health import Heartbeats
from outbox.monitor.refused import RefusedQueue
from outbox.transports import celery_broker, celery_queues, refusal_keeper
from outbox.transports.base import Message, QueueUnavailable
from outbox.transports.celery_broker import CeleryTransport
from tests.processes import eventually

CAUSE = "RabbitMQ has refused a message: no node leads the queue, or it is full (x-overflow)"


def store_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store what is refused often. The rows stay fresh for as long as usual."""
    often = SimpleNamespace(HEARTBEAT_SECONDS=0.02)
    monkeypatch.setattr(refusal_keeper, "conf", lambda **_options: often)
    monkeypatch.setattr(celery_queues, "_FIRST_PAUSE", 0.0)


class RabbitMQ:
    """Takes the relay's messages, or refuses them."""

    def __init__(self) -> None:
        self.refuses = True

    def send(self, *_args: Any, **_options: Any) -> None:
        if self.refuses:
            error = OperationalError("")
            error.__cause__ = MessageNacked()
            raise error


def be_rabbitmq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker in memory count as one that may refuse messages."""
    for module in (celery_queues, sending):
        monkeypatch.setattr(module, "may_refuse", lambda _app: True)


def refusing(monkeypatch: pytest.MonkeyPatch) -> RabbitMQ:
    """Return a RabbitMQ that gets the messages of the relay."""
    made = RabbitMQ()
    be_rabbitmq(monkeypatch)
    monkeypatch.setattr(celery_broker, "_send_task", made.send)
    return made


def dispatch(queue: str = "silent", database: str = "") -> None:
    CeleryTransport().dispatch(Message("parcels.print", queue, 1, ((1, 1),), database=database))


def refuse(queue: str = "silent", database: str = "") -> None:
    with pytest.raises(QueueUnavailable):
        dispatch(queue, database)


def refuse_another(*queues: str) -> None:
    """Store that queues take no message from another process."""
    now = Heartbeats().now
    one = {"cause": CAUSE, "since": now.isoformat(), "latest": now.isoformat()}
    Heartbeat.objects.create(
        kind="sender",
        name="host.7/1",
        refused=dict.fromkeys(queues, one),
        started_at=now,
        seen_at=now,
    )


def refused(using: str = "default") -> list[RefusedQueue]:
    return Heartbeats(using=using).refused_queues()


def reported(using: str = "default") -> RefusedQueue:
    eventually(lambda: refused(using), f"a report in {using}")
    [found] = refused(using)
    return found


def is_over(using: str = "default") -> bool:
    return not refused(using)
