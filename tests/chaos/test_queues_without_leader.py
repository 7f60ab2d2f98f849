"""RabbitMQ confirms no message for a quorum queue that has no leader, and takes all others.

The proving ground's lease is so short that the time limit interrupts each send to this queue.
"""

from __future__ import annotations

import re

import pytest

from tests.chaos.brokers import name_under_test
from tests.chaos.rabbitmq import RabbitMQ
from tests.chaos.stack import Stack
from tests.chaos.test_task_calls import TASKS, call_tasks, ran

pytestmark = [
    *(pytest.mark.processes, pytest.mark.broker, pytest.mark.own_broker),
    *(pytest.mark.once, pytest.mark.timeout(600)),
    pytest.mark.skipif(name_under_test() != "rabbitmq", reason="`make test-rabbitmq` runs it"),
]

#: More than kombu's pool of producers has.
FAILURES = 12


def failures(ground: Stack) -> int:
    [(number,)] = ground.query(
        "SELECT COUNT(*) FROM outbox_attempt WHERE exception IN (?, ?)",
        *("TimeLimitExceeded", "QueueUnavailable"),
    )
    return int(number)


class TestAQueueWithoutALeader:
    def test_gets_its_tasks_from_the_same_process_once_it_has_one(self, ground: Stack):
        """Failed: after ten interrupted sends, each send failed with `LimitExceeded: 10`."""
        assert isinstance(ground.broker, RabbitMQ)
        ground.start_relay()
        called = set(call_tasks(ground, 1))
        ground.wait_until(lambda: ground.queue_length(TASKS) > 0, "the queue exists")

        with ground.broker.without_leader(TASKS):
            called |= set(call_tasks(ground, 8))
            ground.wait_until(lambda: failures(ground) >= FAILURES, "sends fail", ceiling=300)

        ground.start_worker("tasks", queues=TASKS, concurrency=1)
        ground.wait_until(lambda: not ground.has_backlog(), "each call is sent", ceiling=300)
        called = {one.replace("-", "") for one in called}
        ground.wait_until(lambda: ran(ground) >= called, "each task has run", ceiling=300)
        assert ran(ground) == called
        assert not re.search(r"\bLimitExceeded: \d", ground.log("relay"))
