"""The Celery transport asks whether its broker takes messages. Here RabbitMQ is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from amqp.exceptions import AccessRefused
from celery import Celery
from kombu.transport.memory import Channel

from outbox.transports import celery_broker, celery_queues
from outbox.transports.celery_broker import CeleryTransport
from tests.outbox.project.celery import app as default_app


@pytest.fixture(autouse=True)
def rabbit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current app, whose broker counts as RabbitMQ."""
    monkeypatch.setattr(celery_broker, "may_refuse", lambda _app: True)
    monkeypatch.setattr(celery_queues, "is_rabbitmq", lambda _producer: True)
    made = Celery("rabbit", broker=f"memory://{uuid4()}", set_as_current=False)
    made.set_current()
    try:
        yield
    finally:
        default_app.set_current()
        made.close()


def fail_publishing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def publish(*_args: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(Channel, "basic_publish", publish)


class TestRabbitMQ:
    def test_is_available_if_it_confirms_a_message(self):
        assert CeleryTransport().is_available()

    def test_is_not_available_while_an_alarm_blocks_publishers(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: every few seconds the relay logged that the broker is back, and claimed again.

        During an alarm RabbitMQ opens channels, and confirms nothing.
        """
        fail_publishing(monkeypatch, TimeoutError())

        assert not CeleryTransport().is_available()

    def test_is_available_to_a_user_who_may_not_use_the_default_exchange(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to fail with a refused probe that counts as an alarm."""
        fail_publishing(monkeypatch, AccessRefused("access to exchange 'amq.default' refused"))

        assert CeleryTransport().is_available()
