"""The Celery transport asks whether its broker takes messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from amqp.exceptions import AccessRefused
from celery import Celery
from kombu.transport.memory import Channel

from outbox.transports import celery_queues
from outbox.transports.celery_broker import CeleryTransport
from tests.outbox.celery_settings import current_app
from tests.processes import eventually
from tests.servers.brokers import RabbitMQServer


@pytest.fixture(autouse=True)
def app() -> Iterator[Celery]:
    """The current app."""
    with current_app(f"memory://{uuid4()}") as made:
        yield made


def fail_publishing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def publish(*_args: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(Channel, "basic_publish", publish)


class TestAnyOtherBroker:
    def test_is_available_if_it_opens_a_channel(self):
        """Failed: Celery's proxy of the current app has no weak reference, so none was."""
        assert CeleryTransport().is_available()


class TestRabbitMQInMemory:
    @pytest.fixture(autouse=True)
    def rabbit(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        """The app's broker counts as RabbitMQ."""
        monkeypatch.setitem(celery_queues._is_rabbitmq, app, True)
        monkeypatch.setattr(celery_queues, "is_rabbitmq", lambda _producer: True)

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


@pytest.mark.processes
@pytest.mark.servers
@pytest.mark.once
class TestRabbitMQ:
    def test_is_not_available_while_an_alarm_blocks_publishers(self, rabbitmq: RabbitMQServer):
        """Failed: RabbitMQ confirms the first message of each connection also during an alarm."""
        with current_app(rabbitmq.url):
            with rabbitmq.memory_alarm():
                assert not CeleryTransport().is_available()

            eventually(CeleryTransport().is_available, "RabbitMQ takes messages")

    def test_is_available_to_a_user_who_may_not_use_the_default_exchange(
        self, rabbitmq: RabbitMQServer
    ):
        rabbitmq.control("add_user", "limited", "limited")
        try:
            rabbitmq.control("set_permissions", "limited", ".*", "^outbox", ".*")
            with current_app(rabbitmq.url.replace("guest:guest@", "limited:limited@")):
                assert CeleryTransport().is_available()
                with rabbitmq.memory_alarm():  # it refuses nothing then, and does not answer
                    assert not CeleryTransport().is_available()
                eventually(CeleryTransport().is_available, "RabbitMQ takes messages")
        finally:
            rabbitmq.control("delete_user", "limited")
