"""The broker is killed while stored calls of Celery tasks are sent to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.chaos.broker import Valkey
from tests.chaos.stack import Stack

pytestmark = [
    # The broker's answers decide. tests/outbox/celery_tasks settles calls on both databases.
    pytest.mark.once,
    *(pytest.mark.processes, pytest.mark.broker, pytest.mark.own_broker),
    pytest.mark.timeout(600),
]

LOCAL = [sys.executable, "manage.py", "outbox", "work"]
TASKS = "ground.tasks"
RUNS = "SELECT DISTINCT event_id FROM ground_effect WHERE handler = 'task'"
ROUNDS, NUMBER = 3, 40


def call_tasks(ground: Stack, number: int) -> list[str]:
    """Return the ids of the calls that were committed."""
    return ground.manage("call_tasks", str(number)).split()


def ran(ground: Stack) -> set[str]:
    return {str(one).replace("-", "") for (one,) in ground.query(RUNS)}


@pytest.fixture
def durable_ground(ground: Stack) -> Iterator[Stack]:
    """The proving ground with a broker that confirms a message only when it is on disk.

    With `everysec`, Valkey answers up to two seconds before it writes to a busy disk. A SIGKILL
    loses these messages, and the calls in them are done.
    """
    if not isinstance(ground.broker, Valkey):
        yield ground
        return
    usual = ground.broker.command
    ground.broker.command = [*usual, "--appendfsync", "always"]
    yield ground
    ground.broker.command = usual
    ground.stop_all()


class TestABrokerThatIsKilled:
    @pytest.mark.parametrize("transport", ["celery", "local"])
    def test_loses_no_call_and_runs_none_that_was_rolled_back(
        self, durable_ground: Stack, transport: str
    ):
        """Without the receipt after the broker's answer: calls that it did not take are done.

        The worker of the tasks starts last. With Redis, Celery can lose a message that it takes
        from the queue while the broker dies.
        """
        ground = durable_ground
        ground.stop_all()
        ground.start_broker()
        self.start(ground, transport)
        called = self.call_into_a_stored_queue(ground)
        for _round in range(ROUNDS):
            before = ground.queue_length(TASKS)
            called |= {one.replace("-", "") for one in call_tasks(ground, NUMBER)}
            ground.wait_until(
                lambda before=before: ground.queue_length(TASKS) > before, "some are sent"
            )
            ground.kill("broker")
            owed = call_tasks(ground, NUMBER)
            called |= {one.replace("-", "") for one in owed}
            assert "outbox.CeleryTaskCalled" in ground.manage("outbox", "why", owed[0])
            assert ground.has_backlog()
            ground.start_broker()

        ground.wait_until(lambda: not ground.has_backlog(), "each call is sent", ceiling=300)
        ground.start_worker("tasks", queues=TASKS, concurrency=1)
        ground.wait_until(lambda: ran(ground) >= called, "each task has run", ceiling=300)
        assert ran(ground) == called

    def call_into_a_stored_queue(self, ground: Stack) -> set[str]:
        """Call a task, and stop and start the broker once its queue exists.

        A node of RabbitMQ that is killed within minutes after the first declaration of a quorum
        queue may lose the queue's registration. The queue then has no leader after the restart, and
        takes no message ("name_not_registered" in the node's log).
        """
        called = {one.replace("-", "") for one in call_tasks(ground, 1)}
        ground.wait_until(lambda: ground.queue_length(TASKS) > 0, "the queue has a message")
        ground.stop("broker")
        ground.start_broker()
        return called

    def start(self, ground: Stack, transport: str) -> None:
        if transport == "celery":
            ground.start_relay()
            return
        ground.start("local", LOCAL, GROUND_HAS_BOTH="yes")
        ground.wait_until(lambda: "Working: " in ground.log("local"), "it works")
