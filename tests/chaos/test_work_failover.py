"""The primary of PostgreSQL is lost, and processes of `outbox work` go on with its standby.

An address that moves to the new primary stands for that of a managed database.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from shop.postgres import EmbeddedPostgres
from tests.chaos.stack import Stack
from tests.chaos.test_fire import QUEUES, any_delivery, assert_each_once, settle, strike
from tests.chaos.without_broker import NoBroker
from tests.databases import own_postgresql
from tests.link import Link
from tests.standby import Standby, standby_of

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(600)]

PROCESSES = 2
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN outbox_nudge%'"
EVENTS = "SELECT count(*) FROM outbox_event"
#: A database that cannot be reached ends no attempt of a handler, and no process.
DIED = "SELECT count(*) FROM outbox_attempt WHERE outcome = 'died'"


@dataclass
class Cluster:
    """A primary, its standby, and the address that leads to one of them."""

    primary: EmbeddedPostgres
    standby: Standby
    address: Link

    def fail_over(self) -> None:
        """Kill the primary, promote the standby, and move the address."""
        assert self.primary.pid is not None
        os.kill(self.primary.pid, signal.SIGKILL)
        self.address.cut()
        self.standby.promote()
        self.address.target = _place_of(self.standby.url)
        self.address.mend()


def _place_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def _through(link: Link, url: str) -> str:
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{link.port}"
    return urlunsplit(parts._replace(netloc=login))


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stack, Cluster]]:
    """A supervisor with two processes. The stack's own queries go through the address, too."""
    monkeypatch.setenv("TEST_BROKER", "none")
    with ExitStack() as cleanup:
        primary = cleanup.enter_context(own_postgresql())
        url = primary.start()
        link = cleanup.enter_context(Link(_place_of(url)))
        address, settings = _through(link, url), "tests.chaos.settings"
        stack = Stack(folder=tmp_path, database_url=address, settings=settings, broker=NoBroker())
        cleanup.callback(stack.stop_all)
        stack.manage("migrate", "-v0")
        standby = cleanup.enter_context(standby_of(url))
        stack.start_worker(queues=f"outbox,{QUEUES}", concurrency=PROCESSES)
        stack.wait_until(lambda: stack.value(LISTENING) == PROCESSES, "both listen")
        yield stack, Cluster(primary, standby, link)


class TestAFailover:
    def test_is_survived_by_processes_that_listen_and_deliver(self, stack: tuple[Stack, Cluster]):
        """Without the listener's second session: the processes never listen again."""
        ground, cluster = stack
        ground.wait_until(lambda: len(ground.children("worker")) == PROCESSES, "both run")
        before = set(ground.children("worker"))
        strike(ground, 20)
        settle(ground)
        cluster.standby.wait_for(EVENTS, ground.value(EVENTS))

        cluster.fail_over()
        ground.wait_until(lambda: ground.value(LISTENING) == PROCESSES, "both listen again")
        strike(ground, 20)

        settle(ground)
        assert_each_once(ground, 40)
        assert set(ground.children("worker")) == before
        assert ground.value(DIED) == 0
        assert ground.stop("worker") == 0

    def test_in_the_middle_of_deliveries_repeats_no_effect(self, stack: tuple[Stack, Cluster]):
        """What the standby has not received is lost, effects and receipts alike."""
        ground, cluster = stack
        ground.wait_until(lambda: len(ground.children("worker")) == PROCESSES, "both run")
        before = set(ground.children("worker"))
        strike(ground, 60)
        ground.wait_until(lambda: any_delivery(ground), "a pass has begun")

        cluster.fail_over()
        ground.wait_until(lambda: ground.value(LISTENING) == PROCESSES, "both listen again")
        strike(ground, 1)

        settle(ground)
        number = int(ground.value("SELECT count(*) FROM outbox_event WHERE name = 'ground.Struck'"))
        assert number > 1, "the standby has nothing of the primary"
        assert_each_once(ground, number)
        assert set(ground.children("worker")) == before
