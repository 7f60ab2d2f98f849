"""The host of Valkey's primary and a Sentinel is lost. Relay and worker go on with its replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shop.up.errors import UpError
from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike
from tests.cluster.network import Network, NoNetwork, require
from tests.cluster.sentinel import SentinelGroup
from tests.databases import fresh_database

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(300)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Stack, SentinelGroup, Network]]:
    """A relay and a worker, and their broker on three hosts."""
    with ExitStack() as cleanup:
        try:
            require()
            network = cleanup.enter_context(Network(["one", "two", "three"]))
        except NoNetwork as error:
            pytest.skip(str(error))
        group = SentinelGroup([network[name] for name in ("one", "two", "three")], tmp_path)
        try:
            group.start()
        except UpError as error:
            pytest.skip(str(error))
        url = cleanup.enter_context(fresh_database())
        stack = Stack(folder=tmp_path, database_url=url, settings="tests.chaos.settings",
                      broker=group)  # fmt: skip
        cleanup.callback(stack.stop_all)
        stack.migrate()
        stack.wait_until(group.answers, "each Sentinel knows the others")
        yield stack, group, network


class TestALostPrimary:
    def test_is_followed_by_relay_and_worker_to_its_replica(
        self, site: tuple[Stack, SentinelGroup, Network]
    ):
        """Without `retry` of redis-py turned off: each connection waits for the lost Sentinel."""
        stack, group, network = site
        stack.start_relay()
        stack.start_worker(queues=QUEUES)
        before = {name: stack.children(name) for name in ("relay", "worker")}
        strike(stack, 20)
        settle(stack)

        network["one"].kill()
        strike(stack, 20)
        stack.wait_until(group.has_failed_over, "the replica is the primary")
        settle(stack)
        strike(stack, 20)

        settle(stack)
        assert_each_once(stack, 60)
        assert {name: stack.children(name) for name in before} == before
        assert stack.stop("worker") == 0
