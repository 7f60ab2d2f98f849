"""A host loses its network while it holds locks in the database. The others continue.

The host is a network namespace that is cut off. A killed process would not do: its kernel closes
the connection, and PostgreSQL knows at once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.chaos.stack import ROOT, Stack
from tests.cluster.network import Network
from tests.cluster.postgresql import allow
from tests.databases import own_postgresql

pytestmark = [pytest.mark.postgresql, pytest.mark.processes, pytest.mark.timeout(600)]

SETTINGS = "tests.chaos.settings"


class Site:
    """A stack whose database another host reaches, too."""

    def __init__(self, stack: Stack, network: Network) -> None:
        self.stack = stack
        self._network = network

    def lose_host_in(self, where: str) -> None:
        """Start a process on the other host, and cut it off when it holds its locks."""
        at = urlsplit(self.stack.database_url)
        user = at.netloc.rpartition("@")[0]
        url = urlunsplit(at._replace(netloc=f"{user}@{self._network.address}:{at.port}"))
        log = self.stack.folder / "lost.log"
        with log.open("wb") as output:
            self._network["one"].start(
                [sys.executable, "-m", "tests.chaos.lost_host", where],
                cwd=ROOT,
                env={**self.stack.environment, "DATABASE_URL": url},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.stack.wait_until(lambda: "holding" in log.read_text(), "the other host holds locks")
        self._network["one"].kill()


@pytest.fixture
def site(network: Network, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as cleanup:
        server = cleanup.enter_context(
            own_postgresql({"listen_addresses": f"127.0.0.1,{network.address}"})
        )
        url = server.start()
        allow(url, network)
        stack = Stack(folder=tmp_path, database_url=url, settings=SETTINGS)
        cleanup.callback(stack.stop_all)
        stack.start_broker()
        stack.manage("migrate", "-v0")
        yield Site(stack, network)


def done(stack: Stack) -> int:
    return int(stack.value("SELECT count(*) FROM outbox_delivery WHERE state = 'done'"))


class TestAHostThatDisappears:
    def test_in_a_pass_stops_no_other_relay(self, site: Site):
        """Failed: all relays stood still, until TCP's keepalive notices after two hours."""
        site.stack.manage("strike", "5", "--of=Spared")
        site.lose_host_in("pass")

        site.stack.start_relay()
        site.stack.start_worker(queues="ground.slow")

        site.stack.wait_until(lambda: done(site.stack) == 5, "the other relay sends everything")

    def test_in_a_handler_leaves_its_delivery_to_another_worker(self, site: Site):
        site.stack.manage("strike", "1", "--of=Spared")
        site.lose_host_in("handler")

        site.stack.start_relay()
        site.stack.start_worker(queues="ground.slow")

        dead = "SELECT count(*) FROM outbox_delivery WHERE state = 'dead'"
        site.stack.wait_until(lambda: site.stack.value(dead) == 1, "its only attempt is used up")
        idle = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND client_addr IS NOT NULL"
        )
        site.stack.wait_until(lambda: site.stack.value(idle) == 0, "its transaction has ended")
