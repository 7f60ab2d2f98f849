"""A node of RabbitMQ is cut off from the two others, and another one is lost. Deliveries go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.brokers import name_under_test
from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike
from tests.cluster.network import Network, NoNetwork, require
from tests.cluster.rabbitmq import RabbitGroup
from tests.databases import fresh_database

pytestmark = [
    pytest.mark.processes,
    pytest.mark.once,
    pytest.mark.timeout(900),
    pytest.mark.skipif(name_under_test() != "rabbitmq", reason="`make test-rabbitmq` runs it"),
]

NAMES = ("one", "two", "three")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Stack, RabbitGroup, Network]]:
    """A relay and a worker, and their broker on three hosts."""
    with ExitStack() as cleanup:
        try:
            require()
            network = cleanup.enter_context(Network(NAMES))
            group = RabbitGroup([network[name] for name in NAMES], tmp_path / "nodes")
        except (NoNetwork, FileNotFoundError) as error:
            pytest.skip(str(error))
        group.start()
        url = cleanup.enter_context(fresh_database())
        stack = Stack(folder=tmp_path, database_url=url, settings="tests.chaos.settings",
                      broker=group)  # fmt: skip
        cleanup.callback(stack.stop_all)
        stack.migrate()
        stack.wait_until(group.answers, "all nodes are in the cluster", ceiling=300)
        yield stack, group, network


class TestALostNode:
    def test_is_followed_by_relay_and_worker_to_the_others(
        self, site: tuple[Stack, RabbitGroup, Network]
    ):
        """The healed partition and the restart lose no event, and repeat no effect."""
        stack, group, network = site
        stack.start_relay()
        stack.start_worker(queues=QUEUES)
        before = {name: stack.children(name) for name in ("relay", "worker")}
        strike(stack, 20)
        settle(stack)

        network["one"].cut()
        strike(stack, 20)
        settle(stack)
        network["one"].mend()
        stack.wait_until(group.answers, "the node is in the cluster again", ceiling=300)
        network["two"].kill()
        strike(stack, 20)

        settle(stack)
        assert_each_once(stack, 60)
        assert {name: stack.children(name) for name in before} == before
        assert stack.stop("worker") == 0
