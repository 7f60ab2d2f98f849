from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.broker import RabbitMQ, is_rabbitmq_wanted
from tests.chaos.stack import Stack, running_stack

QUEUES = ["outbox", "ground", "ground.outside", "ground.slow"]


@pytest.fixture(scope="session")
def _ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The proving ground's stack, one for all tests of a run."""
    folder = tmp_path_factory.mktemp("ground")
    broker = RabbitMQ(folder / "broker", queues=QUEUES) if is_rabbitmq_wanted() else None
    with running_stack(folder, settings="tests.chaos.settings", broker=broker) as stack:
        yield stack


@pytest.fixture
def ground(_ground: Stack) -> Iterator[Stack]:
    """The proving ground with its broker up and nothing owed; processes are the test's to start.

    The processes called "relay" and "worker" go on from test to test, as starting takes seconds.
    """
    yield _ground
    _ground.stop_all(but={"broker", "relay", "worker"})
    if not _ground.is_running("broker"):
        _ground.start_broker()
    _ground.wipe_broker()
    for table in ("outbox_attempt", "outbox_delivery", "outbox_event", "ground_effect"):
        _ground.query(f"DELETE FROM {table}")
    _ground.query("DELETE FROM outbox_subscription WHERE handler = ?", "ground.newcomer")
    _ground.query('UPDATE outbox_subscription SET window_now = "window", paused_at = NULL')
