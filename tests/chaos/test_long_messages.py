"""A message that takes longer than RabbitMQ's `consumer_timeout` ends neither worker nor delivery.

By default that is half an hour; here it is three seconds, and the worker acknowledges after one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.brokers import is_given, name_under_test
from tests.chaos.rabbitmq import RabbitMQ
from tests.chaos.stack import Stack, running_stack

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        name_under_test() != "rabbitmq" or is_given(),
        reason="it is about a setting of RabbitMQ, of a node of its own",
    ),
]

QUEUES = ["outbox", "ground.slow"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    impatient = {"consumer_timeout": 3000, "channel_tick_interval": 1000}
    broker = RabbitMQ(tmp_path / "broker", queues=QUEUES, configuration=impatient)
    with running_stack(tmp_path, settings="tests.chaos.settings", broker=broker) as stack:
        stack.start_relay()
        yield stack


class TestAMessageThatTakesLong:
    def test_is_acknowledged_before_the_timeout_of_the_broker(self, stack: Stack):
        """Failed: RabbitMQ closed the channel, and the worker ended."""
        stack.start_worker(
            queues="ground.slow", concurrency=1, GROUND_STEPS="16", GROUND_ACKNOWLEDGES_AFTER="1"
        )

        stack.manage("strike", "2", "--of=Lingered")

        done = "SELECT count(*) FROM outbox_delivery WHERE state = 'done'"
        stack.wait_until(lambda: stack.value(done) == 2, "both are done")
        assert stack.is_running("worker")
        assert "PRECONDITION_FAILED" not in stack.log("worker")
        assert stack.value("SELECT count(*) FROM outbox_attempt") == 0
