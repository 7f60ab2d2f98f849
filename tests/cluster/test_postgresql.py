"""The host of a PostgreSQL primary is lost. Processes go on with its standby, by one URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, assert_each_once, settle, strike
from tests.chaos.without_broker import NoBroker
from tests.cluster.network import Network
from tests.cluster.postgresql import Pair, postgresql_pair

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(300)]

EVENTS = "SELECT count(*) FROM outbox_event"
DIED = "SELECT count(*) FROM outbox_attempt WHERE outcome = 'died'"


@pytest.fixture
def site(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stack, Pair]]:
    """A supervisor with two processes, on a host with neither of the two databases."""
    monkeypatch.setenv("TEST_BROKER", "none")
    with ExitStack() as cleanup:
        pair = cleanup.enter_context(postgresql_pair(network, network["one"], network["two"]))
        stack = Stack(folder=tmp_path, database_url=pair.url, settings="tests.chaos.settings",
                      broker=NoBroker())  # fmt: skip
        cleanup.callback(stack.stop_all)
        stack.migrate()
        stack.start_worker(queues=f"outbox,{QUEUES}")
        yield stack, pair


class TestALostPrimary:
    def test_is_followed_by_processes_to_its_standby(self, site: tuple[Stack, Pair]):
        """With `target_session_attrs=any` in the URL: each write of a later process fails."""
        stack, pair = site
        stack.wait_until(lambda: len(stack.children("worker")) == 2, "both processes run")
        before = stack.children("worker")
        strike(stack, 20)
        settle(stack)
        pair.standby.wait_for(EVENTS, stack.value(EVENTS))

        pair.lose_primary()
        stack.database_url = pair.standby.url
        strike(stack, 20)

        settle(stack)
        assert_each_once(stack, 40)
        assert stack.children("worker") == before
        assert stack.value(DIED) == 0
        assert stack.stop("worker") == 0
