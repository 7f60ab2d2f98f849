"""A worker whose exclusive queue RabbitMQ still keeps for another connection waits for it.

That is the state after a worker's host was cut off: the worker has connected again, and RabbitMQ
has not noticed that its old connection is lost.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest
from kombu import Connection, Queue

from tests.chaos.brokers import name_under_test
from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike

pytestmark = [
    pytest.mark.processes,
    pytest.mark.once,
    pytest.mark.timeout(600),
    pytest.mark.skipif(name_under_test() != "rabbitmq", reason="`make test-rabbitmq` runs it"),
]


@pytest.fixture
def old_connection(ground: Stack) -> Iterator[Connection]:
    """A connection that has the queue of the worker "locked" for remote control."""
    with Connection(ground.broker.settings["AMQP_URL"]) as connection:
        name = f"locked@{socket.gethostname()}.celery.pidbox"
        Queue(name, exclusive=True, durable=False)(connection.channel()).declare()
        yield connection


class TestAWorkerWhoseOldConnectionIsNotReleased:
    def test_waits_and_then_works_without_a_restart(
        self, ground: Stack, old_connection: Connection
    ):
        """Failed: the worker ended with RESOURCE_LOCKED."""
        ground.start_relay()
        celery = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-n", "locked@%h"]
        ground.start("locked", [*celery, "-Q", QUEUES, "-c", "2"])
        ground.wait_until(
            lambda: "has not released a queue" in ground.log("locked"), "the worker waits"
        )

        old_connection.close()
        strike(ground, 20)

        settle(ground)
        assert_each_once(ground, 20)
        assert ground.stop("locked") == 0
